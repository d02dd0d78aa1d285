import { parseArgs } from 'node:util';
import { StartError } from '../errors.ts';
import { BASE_PORT_MAX, BASE_PORT_MIN } from './ports.ts';

const FRONTENDS_MAX = 32;
const WORKERS_MAX = 32;

/** What the user asked for. */
export interface Options {
  readonly frontends: number;
  readonly workers: number;
  /** The port of the first vote handler; all others follow from it. */
  readonly port: number;
  /** The data folder, as typed. */
  readonly data: string;
}

export const HELP = `Usage: npm start -- [options]

Runs all of Turnout on this machine: Redis and the vote handler for each frontend, workers, Postgres, results, dashboard.

  --frontends N  frontend nodes, each with its own Redis: 1 to ${FRONTENDS_MAX} (default 2)
  --workers M    workers that count the votes: 1 to ${WORKERS_MAX} (default 1)
  --port P       port of the first vote handler, the others follow from it: ${BASE_PORT_MIN} to ${BASE_PORT_MAX} (default 8080)
  --data DIR     where votes, secrets and logs are kept (default .turnout)
  --help         this text

Environment: DATABASE_URL uses that Postgres instead of starting one; POLLS_FILE other polls; LOG_LEVEL,
VOTES_PER_JOB_MAX, CAPTURE_BUFFER_MAX, VOTER_ADMISSION and WEB_CONCURRENCY are handed on.`;

/**
 * Reads the command line.
 *
 * @returns `help` when that was asked for
 * @throws StartError in one line when an option is unknown or out of range
 */
export function parseOptions(args: readonly string[]): Options | 'help' {
  const values = parse(args);
  if (values.help) return 'help';
  if (values.data === '') throw new StartError('--data must name a folder');
  return {
    frontends: wholeNumber('--frontends', values.frontends, 1, FRONTENDS_MAX),
    workers: wholeNumber('--workers', values.workers, 1, WORKERS_MAX),
    port: wholeNumber('--port', values.port, BASE_PORT_MIN, BASE_PORT_MAX),
    data: values.data,
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        frontends: { type: 'string', default: '2' },
        workers: { type: 'string', default: '1' },
        port: { type: 'string', default: '8080' },
        data: { type: 'string', default: '.turnout' },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    // Node explains at length how to pass an argument that begins with a dash; the first sentence is enough.
    const [first = ''] = (error as Error).message.split(/\. |\n/);
    throw new StartError(`${first.replace(/\.$/, '')} (see --help)`);
  }
}

function wholeNumber(name: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < min || value > max) {
    throw new StartError(`${name} must be a whole number from ${min} to ${max}, not "${text}"`);
  }
  return value;
}
