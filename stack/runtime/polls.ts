import { readFileSync } from 'node:fs';
import * as v from 'valibot';
import { ConfigError } from './config.ts';

const POLLS_MAX = 1_000;
const CHOICES_MIN = 2;
const CHOICES_MAX = 20;
const RETAIN_DAYS_MAX = 3_650;
const TEXT_CHARACTERS_MAX = 500;

const id = v.pipe(
  v.string(),
  v.regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'must be 1 to 63 lower-case letters, digits and hyphens'),
);
const text = (charactersMax: number) =>
  v.pipe(
    v.string(),
    v.trim(),
    v.minLength(1, 'must not be empty'),
    v.maxLength(charactersMax, `must have at most ${charactersMax} characters`),
  );
const instant = v.pipe(
  v.string(),
  v.isoTimestamp('must be a time with a zone, like 2027-02-07T23:30:00Z'),
  v.transform((value) => Date.parse(value)),
);
const uniqueIds = <T extends { id: string }>() =>
  v.check<T[], string>(
    (items) => new Set(items.map((item) => item.id)).size === items.length,
    'must not repeat an id',
  );

const choice = v.strictObject({ id, label: text(80) });

/** Texts of the voting page that a poll may replace. */
const TEXT_KEYS = ['invitation', 'thanks', 'notOpen', 'closed'] as const;
const colour = v.pipe(v.string(), v.regex(/^#[0-9a-f]{6}$/i, 'must be a colour like #4a3bc4'));

/** Fields of a poll that the page and the results depend on, each with a default. */
const options = {
  /** `closed`: the result is not shown until it is final. */
  results: v.optional(v.picklist(['live', 'closed'])),
  /** A rehearsal: listed nowhere, removed by `npm run polls -- forget`. */
  hidden: v.optional(v.boolean()),
  /** The votes are deleted this long after the final result. */
  retainVotesDays: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(RETAIN_DAYS_MAX))),
  /** Language of the poll, a BCP 47 tag. */
  lang: v.optional(
    v.pipe(v.string(), v.regex(/^[a-z]{2,3}(-[a-z0-9]{2,8})*$/i, 'must be a language tag like pt-BR')),
  ),
  texts: v.optional(v.partial(v.strictObject(v.entriesFromList(TEXT_KEYS, text(TEXT_CHARACTERS_MAX))))),
  colours: v.optional(v.partial(v.strictObject({ light: colour, dark: colour }))),
};
type Options = v.InferOutput<v.ObjectSchema<typeof options, undefined>>;

const poll = v.pipe(
  v.strictObject({
    id,
    question: text(200),
    choices: v.pipe(
      v.array(choice),
      v.minLength(CHOICES_MIN, `must be at least ${CHOICES_MIN}`),
      v.maxLength(CHOICES_MAX, `must be at most ${CHOICES_MAX}`),
      uniqueIds(),
    ),
    opensAt: v.optional(instant),
    closesAt: v.optional(instant),
    ...options,
  }),
  v.check(
    ({ opensAt, closesAt }) => opensAt === undefined || closesAt === undefined || opensAt < closesAt,
    'closesAt must be after opensAt',
  ),
);

const pollsFile = v.strictObject({
  version: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(2 ** 31 - 1)), 1),
  polls: v.pipe(
    v.array(poll),
    v.minLength(1, 'must be at least one'),
    v.maxLength(POLLS_MAX, `must be at most ${POLLS_MAX}`),
    uniqueIds(),
  ),
});

/** A poll as the polls file defines it. Times are milliseconds since 1970; an absent one is no limit. */
export interface Poll extends Options {
  readonly id: string;
  readonly question: string;
  readonly choices: readonly { readonly id: string; readonly label: string }[];
  readonly opensAt?: number | undefined;
  readonly closesAt?: number | undefined;
}

/** The polls file. A worker applies it only if its version is higher than that of the last one; 1 when absent. */
export interface PollsFile {
  readonly version: number;
  readonly polls: readonly Poll[];
}

/** A poll as Postgres holds it and as workers store it in each node's Redis. */
export interface StoredPoll extends Poll {
  /** Raised by every change of the poll, but not by its scheduled close. */
  readonly revision: number;
  /** Whether this revision has closed. It never opens again; a higher revision may. */
  readonly isClosed: boolean;
  /** Order of display; `null` hides a poll that a newer polls file no longer contains. */
  readonly position: number | null;
}

const storedPoll = v.object({
  revision: v.pipe(v.number(), v.integer(), v.minValue(1)),
  isClosed: v.boolean(),
  position: v.nullable(v.number()),
  question: v.string(),
  choices: v.array(v.object({ id: v.string(), label: v.string() })),
  opensAt: v.optional(v.number()),
  closesAt: v.optional(v.number()),
  ...options,
});

/** Returns a poll as a value of the hash `POLLS_KEY`. */
export function formatStoredPoll(poll: StoredPoll): string {
  const { id: _, ...fields } = poll;
  return JSON.stringify(fields);
}

/**
 * Parses a value of the hash `POLLS_KEY`; `undefined` when it is not a stored poll. Unknown fields are ignored: a newer
 * worker may write them.
 */
export function parseStoredPoll(id: string, value: string): StoredPoll | undefined {
  let json: unknown;
  try {
    json = JSON.parse(value);
  } catch {
    return undefined;
  }
  const result = v.safeParse(storedPoll, json);
  return result.success ? { id, ...result.output } : undefined;
}

/** Returns the phase of a poll at a time in milliseconds since 1970. It is open from `opensAt` until before `closesAt`. */
export function phaseOf(
  poll: Pick<Poll, 'opensAt' | 'closesAt'>,
  now: number,
): 'not open' | 'open' | 'closed' {
  if (poll.opensAt !== undefined && now < poll.opensAt) return 'not open';
  if (poll.closesAt !== undefined && now >= poll.closesAt) return 'closed';
  return 'open';
}

/**
 * Reads and validates the polls file.
 *
 * @throws ConfigError listing every fault with its path in the file
 */
export function readPollsFile(path: string): PollsFile {
  let content: string;
  try {
    content = readFileSync(path, 'utf8');
  } catch (error) {
    throw new ConfigError([`polls file ${path} cannot be read (${(error as NodeJS.ErrnoException).code})`]);
  }
  return parsePollsFile(content, path);
}

/** Validates the text of a polls file; `path` appears in messages. See `readPollsFile`. */
export function parsePollsFile(content: string, path: string): PollsFile {
  let json: unknown;
  try {
    json = JSON.parse(content);
  } catch (error) {
    throw new ConfigError([`polls file ${path} is not JSON (${(error as Error).message})`]);
  }
  const result = v.safeParse(pollsFile, json);
  if (result.success) return result.output;
  throw new ConfigError(
    result.issues.map((issue) => {
      const where = v.getDotPath(issue);
      return `polls file ${path}: ${where ? `${where}: ` : ''}${issue.message}`;
    }),
  );
}
