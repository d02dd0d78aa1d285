import { parseArguments } from '#dev/arguments.ts';
import { StartError } from '#dev/errors.ts';
import type { Target } from '#kit/load/spec.ts';
import { parseMinutes, parseVoters } from '../options.ts';

/** What one machine can offer, with every request recorded. */
const VOTERS_MAX = 5_000_000;
const MINUTES_MAX = 60;
/** The frontends of an `npm start`. */
const TARGETS_DEFAULT = ['http://127.0.0.1:8080', 'http://127.0.0.1:8090'];

export const HELP = `Usage: npm run rehearse -- --target URL --voters 200000 --minutes 1 [options]

Rehearses the event on a running system: opens a hidden poll of its own, sends a crowd to it, closes it, waits until the result
is final, and reports whether every accepted vote was counted and how fast. The poll is forgotten afterwards.

  --target URL   where voters vote; several for several frontends (default ${TARGETS_DEFAULT.join(' and ')})
  --voters N     12000, 500k, 2M (default 20000); at most ${VOTERS_MAX / 1e6}M
  --minutes N    in which they arrive (default 1); at most ${MINUTES_MAX}
  --faults       kill processes of the npm start meanwhile: a worker, a vote handler, a Redis, PostgreSQL
  --against HOST confirms a target that is neither on this machine nor in the lab, where no terminal can be asked
  --data DIR     data folder of an npm start (default .turnout)
  --out DIR      folder of the report (default .turnout/rehearsals)
  --help         show this text

Environment: DATABASE_URL and QUEUE_NODES select another system; --data takes precedence. The user of DATABASE_URL must own the
tables.

Exit code: 0 if the system is ready, 1 if it is not or votes are lost, 2 if the rehearsal failed.`;

/** A place to vote, and its address for people. */
interface NamedTarget extends Target {
  readonly url: string;
  readonly host: string;
}

export interface RehearseOptions {
  readonly targets: readonly NamedTarget[];
  readonly voters: number;
  readonly minutes: number;
  readonly hasFaults: boolean;
  /** Hosts that the command line confirms. */
  readonly against: readonly string[];
  /** The data folder as typed; `undefined` without --data. */
  readonly data: string | undefined;
  readonly out: string;
}

/**
 * Parses the command line.
 *
 * @returns `help` for --help
 * @throws StartError in one line
 */
export function parseRehearseOptions(args: readonly string[]): RehearseOptions | 'help' {
  const { values } = parseArguments(args, {
    options: {
      against: { type: 'string', multiple: true, default: [] },
      data: { type: 'string' },
      faults: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
      minutes: { type: 'string', default: '1' },
      out: { type: 'string', default: '.turnout/rehearsals' },
      target: { type: 'string', multiple: true, default: TARGETS_DEFAULT },
      voters: { type: 'string', default: '20000' },
    },
  });
  if (values.help) return 'help';
  if (values.data === '') throw new StartError('--data must name a folder');
  const voters = parseVoters(values.voters);
  if (voters > VOTERS_MAX) throw new StartError(`--voters must be at most ${VOTERS_MAX} (see --help)`);
  const minutes = parseMinutes(values.minutes);
  if (minutes > MINUTES_MAX) throw new StartError(`--minutes must be at most ${MINUTES_MAX} (see --help)`);
  const { data, out, faults: hasFaults, against } = values;
  return { targets: values.target.map(parseTarget), voters, minutes, hasFaults, against, data, out };
}

/** Parses `http://host:port` or `https://host`. */
function parseTarget(text: string): NamedTarget {
  const url = URL.parse(text);
  const isPlain = url?.pathname === '/' && url.search + url.hash + url.username + url.password === '';
  if (!url || !['http:', 'https:'].includes(url.protocol) || !isPlain)
    throw new StartError(`--target must be like http://127.0.0.1:8080, not "${text}" (see --help)`);
  const isTls = url.protocol === 'https:';
  return {
    url: url.origin,
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port === '' ? (isTls ? 443 : 80) : Number(url.port),
    hostHeader: url.host,
    ...(isTls && { isTls }),
  };
}
