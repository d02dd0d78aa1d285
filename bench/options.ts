import { parseArguments, parseWholeNumber } from '#dev/arguments.ts';
import { StartError } from '#dev/errors.ts';

const ROUNDS_FULL = 5;
const ROUNDS_QUICK = 3;
const ROUNDS_MAX = 50;
const VOTERS_UNITS: Readonly<Record<string, number>> = { '': 1, k: 1e3, m: 1e6, b: 1e9 };
const MINUTES_MIN = 1 / 60;
const MINUTES_MAX = 7 * 24 * 60;

/** A parsed command line. */
export type Options =
  | { readonly command: 'help' }
  | {
      readonly command: 'plan';
      readonly voters: number;
      readonly minutes: number;
      /** A result file or a git ref; `undefined` for the newest costs. */
      readonly from: string | undefined;
      /** Whether to write the costs to `bench/plan/costs.json`. */
      readonly shallSave: boolean;
    }
  | {
      readonly command: 'run';
      /** Empty for all. */
      readonly scenarios: readonly string[];
      readonly isQuick: boolean;
      readonly shallBuild: boolean;
      readonly rounds: number;
      readonly out: string | undefined;
      readonly compare: string | undefined;
    };

export const HELP = `Usage: npm run bench -- [scenario…] [options]
       npm run bench -- plan --voters 100M --minutes 10

Measures what a vote costs on this machine, compared with simpler ways to capture votes. Without a scenario: all of them.

  --quick          fewer and shorter rounds, smaller backlogs
  --rounds N       rounds of each side (default ${ROUNDS_FULL}, ${ROUNDS_QUICK} with --quick); --compare needs 5
  --out DIR        folder of the result and its page (default bench/results)
  --compare WHAT   a result file, or a git ref with a committed result
  --no-build       measure the bundles in dist/ as they are
  --help           show this text

plan calculates the machines for a crowd, from the newest complete result or the committed costs, whichever is newer:
  --voters N       12000, 500k, 100M
  --minutes N      in which 95 % of them arrive
  --from WHAT      a result file, or a git ref with a committed result
  --save-costs     also write the costs to bench/plan/costs.json`;

/**
 * Parses the command line.
 *
 * @param known the names of all scenarios
 * @throws StartError in one line
 */
export function parseOptions(args: readonly string[], known: readonly string[]): Options {
  const { values, positionals } = parseArguments(args, {
    allowPositionals: true,
    options: {
      quick: { type: 'boolean', default: false },
      'no-build': { type: 'boolean', default: false },
      rounds: { type: 'string' },
      out: { type: 'string' },
      compare: { type: 'string' },
      from: { type: 'string' },
      'save-costs': { type: 'boolean', default: false },
      voters: { type: 'string', default: '100M' },
      minutes: { type: 'string', default: '10' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return { command: 'help' };
  if (positionals[0] === 'plan') {
    return {
      command: 'plan',
      voters: parseVoters(values.voters),
      minutes: parseMinutes(values.minutes),
      from: values.from,
      shallSave: values['save-costs'],
    };
  }
  const unknown = positionals.find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw new StartError(`unknown scenario "${unknown}", expected ${known.join(', ')} or plan (see --help)`);
  const fallback = String(values.quick ? ROUNDS_QUICK : ROUNDS_FULL);
  return {
    command: 'run',
    scenarios: positionals,
    isQuick: values.quick,
    shallBuild: !values['no-build'],
    rounds: parseWholeNumber('--rounds', values.rounds ?? fallback, 1, ROUNDS_MAX),
    out: values.out,
    compare: values.compare,
  };
}

/** Parses a number of voters: 12000, 500k, 100M, 1.5B. */
export function parseVoters(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([kmb]?)$/i.exec(text);
  const voters = Number(match?.[1]) * (VOTERS_UNITS[match?.[2]?.toLowerCase() ?? ''] ?? Number.NaN);
  if (!(voters >= 1))
    throw new StartError(`--voters must be a number like 500k or 100M, not "${text}" (see --help)`);
  return Math.round(voters);
}

/** Parses a number of minutes, from one second to a week. */
export function parseMinutes(text: string): number {
  const minutes = Number(text);
  if (text.trim() === '' || !(minutes >= MINUTES_MIN && minutes <= MINUTES_MAX)) {
    throw new StartError(
      `--minutes must be a number from 1/60 to ${MINUTES_MAX}, not "${text}" (see --help)`,
    );
  }
  return minutes;
}
