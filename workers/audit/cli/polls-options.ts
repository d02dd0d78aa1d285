import { userInfo } from 'node:os';
import type { Extension } from '#db/control.ts';
import type { OperatorRequest } from '#db/nodes.ts';
import { parseArguments, parseWholeNumber } from '#dev/arguments.ts';
import { StartError } from '#dev/errors.ts';

/** A week. */
const MINUTES_MAX = 10_080;
const REASON_CHARACTERS_MAX = 500;

export const POLLS_HELP = `Usage: npm run polls -- COMMAND [POLL] [options]

Shows and changes polls while people vote.

  list                           every poll: its state, and who has taken its last change
  open POLL                      opens it now, again if it has closed
  close POLL                     closes it now
  extend POLL --minutes N        closes it later than planned; N minutes from now if it has closed
  extend POLL --until TIME       closes it at a time like 2027-02-07T23:30:00Z
  embargo POLL [--lift]          shows its result only once it is final; --lift shows it now
  forget POLL                    deletes the votes of a final poll, keeps its result; a hidden poll disappears

  --reason TEXT  why; recorded with every change
  --who NAME     who; by default the user of this shell
  --data DIR     data folder of an npm start (default .turnout)
  --help         show this text

Environment: DATABASE_URL and QUEUE_NODES select another system; --data takes precedence.

Exit code: 0 if it is so and every node and handler has applied it, 1 if it was refused, 2 if some have not within 10 s.`;

/** A command line. */
export type PollsCommand =
  | { readonly name: 'list' }
  | ({ readonly poll: string; readonly request: OperatorRequest } & (
      | { readonly name: 'open' | 'close' | 'forget' }
      | { readonly name: 'extend'; readonly extension: Extension }
      | { readonly name: 'embargo'; readonly results: 'live' | 'closed' }
    ));

/** The options of the command line. */
export interface PollsOptions {
  readonly command: PollsCommand;
  /** The data folder as typed; `undefined` without --data. */
  readonly data: string | undefined;
}

/**
 * Parses the command line.
 *
 * @returns `help` for --help
 * @throws StartError with one line
 */
export function parsePollsOptions(args: readonly string[]): PollsOptions | 'help' {
  const { values, positionals } = parseArguments(args, {
    allowPositionals: true,
    options: {
      data: { type: 'string' },
      help: { type: 'boolean', default: false },
      lift: { type: 'boolean', default: false },
      minutes: { type: 'string' },
      reason: { type: 'string' },
      until: { type: 'string' },
      who: { type: 'string' },
    },
  });
  if (values.help) return 'help';
  if (values.data === '') throw new StartError('--data must name a folder');
  const [name, poll, ...others] = positionals;
  if (name === 'list' && poll === undefined) return { command: { name }, data: values.data };
  if (poll === undefined || others.length > 0)
    throw new StartError('a command and a poll are required (see --help)');
  const why = values.reason?.trim() ?? '';
  if (why === '' || why.length > REASON_CHARACTERS_MAX)
    throw new StartError(`--reason must have 1 to ${REASON_CHARACTERS_MAX} characters`);
  const change = { poll, request: { who: values.who ?? userInfo().username, why } };
  return { command: { ...change, ...parseChange(name, values) }, data: values.data };
}

interface ChangeValues {
  readonly lift: boolean;
  readonly minutes?: string | undefined;
  readonly until?: string | undefined;
}

function parseChange(name: string | undefined, { lift, minutes, until }: ChangeValues) {
  switch (name) {
    case 'open':
    case 'close':
    case 'forget':
      return { name } as const;
    case 'extend':
      return { name, extension: parseExtension(minutes, until) } as const;
    case 'embargo':
      return { name, results: lift ? 'live' : 'closed' } as const;
    default:
      throw new StartError(`unknown command "${name}" (see --help)`);
  }
}

function parseExtension(minutes: string | undefined, until: string | undefined): Extension {
  if ((minutes === undefined) === (until === undefined))
    throw new StartError('extend needs either --minutes or --until');
  if (minutes !== undefined) return { minutes: parseWholeNumber('--minutes', minutes, 1, MINUTES_MAX) };
  const hasZone = /^\d{4}-\d\d-\d\dT\d\d:\d\d.*(Z|[+-]\d\d:\d\d)$/.test(until ?? '');
  const closesAt = Date.parse(until ?? '');
  if (!hasZone || Number.isNaN(closesAt))
    throw new StartError('--until must be a time with a zone, like 2027-02-07T23:30:00Z');
  return { closesAt };
}
