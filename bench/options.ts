import { parseArguments, parseWholeNumber } from '#dev/arguments.ts';
import { BenchError } from './errors.ts';

const ROUNDS_FULL = 5;
const ROUNDS_QUICK = 3;
const ROUNDS_MAX = 50;
const VOTERS_UNITS: Readonly<Record<string, number>> = { '': 1, k: 1e3, m: 1e6, b: 1e9 };
const MINUTES_MAX = 7 * 24 * 60;

/** What the user asked for. */
export type Options =
  | { readonly command: 'help' }
  | {
      readonly command: 'plan';
      readonly voters: number;
      readonly minutes: number;
      readonly from: string | undefined;
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

Measures what a vote costs, on this machine, against simpler ways to take votes. Without a scenario: all of them.

  --quick          a look: fewer and shorter rounds, smaller backlogs
  --rounds N       rounds of each side (default ${ROUNDS_FULL}, ${ROUNDS_QUICK} with --quick); a comparison needs 5
  --out DIR        where the result and its page are written (default bench/results)
  --compare WHAT   a result file, or a git ref: then the newest result that was committed there
  --no-build       measures the bundles in dist/ as they are
  --help           this text

plan says what a crowd needs, from the newest result or from --from FILE:
  --voters N       12000, 500k, 100M
  --minutes N      in which most of them come`;

/**
 * Reads the command line.
 *
 * @param known the names of all scenarios
 * @throws BenchError or StartError in one line
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
      minutes: numberFrom('--minutes', values.minutes, 1 / 60, MINUTES_MAX),
      from: values.from,
    };
  }
  const unknown = positionals.find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw new BenchError(`no scenario "${unknown}"; there are ${known.join(', ')}, and plan`);
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

/** Reads a number of people: 12000, 500k, 100M, 1.5B. */
function parseVoters(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([kmb]?)$/i.exec(text);
  const voters = Number(match?.[1]) * (VOTERS_UNITS[match?.[2]?.toLowerCase() ?? ''] ?? Number.NaN);
  if (!(voters >= 1)) throw new BenchError(`--voters must be a number like 500k or 100M, not "${text}"`);
  return Math.round(voters);
}

function numberFrom(name: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (text.trim() === '' || !(value >= min && value <= max)) {
    throw new BenchError(`${name} must be a number up to ${max}, not "${text}"`);
  }
  return value;
}
