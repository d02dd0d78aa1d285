import { readFileSync } from 'node:fs';
import * as v from 'valibot';
import { ConfigError } from './config.ts';

const POLLS_MAX = 1_000;
const CHOICES_MIN = 2;
const CHOICES_MAX = 20;

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
  }),
  v.check(
    ({ opensAt, closesAt }) => opensAt === undefined || closesAt === undefined || opensAt < closesAt,
    'closesAt must be after opensAt',
  ),
);

const pollsFile = v.strictObject({
  polls: v.pipe(
    v.array(poll),
    v.minLength(1, 'must be at least one'),
    v.maxLength(POLLS_MAX, `must be at most ${POLLS_MAX}`),
    uniqueIds(),
  ),
});

/** A poll. `opensAt` and `closesAt` are milliseconds since 1970; an absent one is no limit. */
export type Poll = Readonly<v.InferOutput<typeof poll>>;

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
export function readPolls(path: string): readonly Poll[] {
  let content: string;
  try {
    content = readFileSync(path, 'utf8');
  } catch (error) {
    throw new ConfigError([`polls file ${path} cannot be read (${(error as NodeJS.ErrnoException).code})`]);
  }
  return parsePolls(content, path);
}

/** Validates the text of a polls file; `path` appears in messages. See `readPolls`. */
export function parsePolls(content: string, path: string): readonly Poll[] {
  let json: unknown;
  try {
    json = JSON.parse(content);
  } catch (error) {
    throw new ConfigError([`polls file ${path} is not JSON (${(error as Error).message})`]);
  }
  const result = v.safeParse(pollsFile, json);
  if (result.success) return result.output.polls;
  throw new ConfigError(
    result.issues.map((issue) => {
      const where = v.getDotPath(issue);
      return `polls file ${path}: ${where ? `${where}: ` : ''}${issue.message}`;
    }),
  );
}
