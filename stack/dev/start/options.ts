import { parseArguments, parseWholeNumber } from '../arguments.ts';
import { StartError } from '../errors.ts';
import { BASE_PORT_MAX, BASE_PORT_MIN } from './ports.ts';

const FRONTENDS_MAX = 32;
const WORKERS_MAX = 32;

/** The command line of `npm start`. */
export interface Options {
  readonly frontends: number;
  readonly workers: number;
  /** The port of the first vote handler, from which all others are derived. */
  readonly port: number;
  /** The data folder as given, possibly relative. */
  readonly data: string;
}

export const HELP = `Usage: npm start -- [options]

Runs all of Turnout on this machine: a Redis and a vote handler for each frontend, workers, PostgreSQL, the results and
the dashboard. Ctrl-C stops it; the next start continues with the same votes.

  --frontends N  number of frontend nodes, 1 to ${FRONTENDS_MAX} (default 2)
  --workers N    number of workers, which count the votes, 1 to ${WORKERS_MAX} (default 1)
  --port N       port of the first vote handler, ${BASE_PORT_MIN} to ${BASE_PORT_MAX} (default 8080); all other ports follow from it
  --data DIR     folder for votes, secrets and logs (default .turnout)
  --help         show this text

Environment:
  DATABASE_URL   use this PostgreSQL 18 instead of starting one
  POLLS_FILE     use these polls instead of stack/polls.json
  LOG_LEVEL, VOTES_PER_JOB_MAX, CAPTURE_BUFFER_MAX, VOTER_ADMISSION, WEB_CONCURRENCY
                 passed through to the processes. VOTER_ADMISSION=issued also starts the issuer, which reads its
                 settings (stack/README.md) from this environment and serves programs on its own port`;

/**
 * Parses the command line of `npm start`.
 *
 * @returns the options, or `help` if `--help` is given
 * @throws StartError in one line when an option is unknown or out of range
 */
export function parseOptions(args: readonly string[]): Options | 'help' {
  const { values } = parseArguments(args, {
    options: {
      frontends: { type: 'string', default: '2' },
      workers: { type: 'string', default: '1' },
      port: { type: 'string', default: '8080' },
      data: { type: 'string', default: '.turnout' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  if (values.data === '') throw new StartError('--data must name a folder (see --help)');
  return {
    frontends: parseWholeNumber('--frontends', values.frontends, 1, FRONTENDS_MAX),
    workers: parseWholeNumber('--workers', values.workers, 1, WORKERS_MAX),
    port: parseWholeNumber('--port', values.port, BASE_PORT_MIN, BASE_PORT_MAX),
    data: values.data,
  };
}
