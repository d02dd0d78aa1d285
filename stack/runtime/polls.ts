import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import * as v from 'valibot';
import { ConfigError } from './config.ts';
import { contrastOf } from './contrast.ts';
import { IMAGE_NAME, IMAGES_BYTES_MAX, type Images, readImage } from './images.ts';

const POLLS_MAX = 1_000;
const CHOICES_MIN = 2;
const CHOICES_MAX = 20;
const TEXT_CHARACTERS_MAX = 200;
const RETAIN_DAYS_MAX = 3_650;
/** WCAG 2.2, success criterion 1.4.3 (AA). */
const CONTRAST_MIN = 4.5;

/**
 * The surface of the pages, see `handlers/web/style.ts`, with which an accent of a light or a dark page has the lowest contrast. The
 * text on an accent is lighter than this one, or darker, so its contrast is higher.
 */
export const SURFACES = { light: '#f7f5f0', dark: '#1c1a26' } as const;

/** An object with these members only; a fault names the member. */
const strict = <T extends v.ObjectEntries>(entries: T) =>
  v.strictObject(entries, ({ expected, received }) => {
    if (expected === 'never') return `is unknown; the members are ${Object.keys(entries).join(', ')}`;
    return received === 'undefined' ? 'is missing' : `must be an object, not ${received}`;
  });

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
const REPEATED_ID = 'must not repeat an id';
const hasUniqueIds = (items: readonly { id: string }[]) =>
  new Set(items.map((item) => item.id)).size === items.length;

const choice = strict({ id, label: text(80), image: v.optional(v.string()) });

const results = v.picklist(['live', 'closed'], 'must be "live" or "closed"');
const retainVotesDays = v.pipe(
  v.number(),
  v.check(
    (days) => Number.isInteger(days) && days >= 1 && days <= RETAIN_DAYS_MAX,
    `must be a whole number of days from 1 to ${RETAIN_DAYS_MAX}`,
  ),
);
const lang = v.pipe(v.string(), v.check(isLanguageTag, 'must be a language tag like pt-BR'));
const texts = {
  /** Above the choices while the poll is open. */
  invitation: v.optional(text(TEXT_CHARACTERS_MAX)),
  /** Before the voter's choice, once it is captured. */
  thanks: v.optional(text(TEXT_CHARACTERS_MAX)),
  /** Before the time at which the poll opens. */
  notOpen: v.optional(text(TEXT_CHARACTERS_MAX)),
  /** Before the time at which the poll closes, while it is open. */
  closes: v.optional(text(TEXT_CHARACTERS_MAX)),
  /** Above the choices once the poll has closed. */
  closed: v.optional(text(TEXT_CHARACTERS_MAX)),
};
const colour = (theme: keyof typeof SURFACES) =>
  v.pipe(
    v.string(),
    v.regex(/^#[0-9a-f]{6}$/i, 'must be a colour like #4a3bc4'),
    v.check(
      (value) => !(contrastWith(theme, value) < CONTRAST_MIN),
      ({ input }) =>
        `has a contrast of ${floorTo2Digits(contrastWith(theme, input))}:1 with the ${theme} page, must be at least ${CONTRAST_MIN}:1`,
    ),
  );
const colours = { light: colour('light'), dark: colour('dark') };

function isLanguageTag(tag: string): boolean {
  try {
    // The first subtag of names like "english" is well-formed, but no language.
    return /^[a-z]{2,3}(-|$)/i.test(tag) && Intl.getCanonicalLocales(tag).length === 1;
  } catch {
    return false;
  }
}

function contrastWith(theme: keyof typeof SURFACES, accent: string): number {
  return contrastOf(accent, SURFACES[theme]);
}

/** Rounded down, so that a contrast below the limit never reads as the limit. */
function floorTo2Digits(ratio: number): string {
  return (Math.floor(ratio * 100) / 100).toFixed(2);
}

const poll = v.pipe(
  strict({
    id,
    question: text(200),
    choices: v.pipe(
      v.array(choice),
      v.minLength(CHOICES_MIN, `must be at least ${CHOICES_MIN}`),
      v.maxLength(CHOICES_MAX, `must be at most ${CHOICES_MAX}`),
      v.partialCheck([['$', 'id']], hasUniqueIds, REPEATED_ID),
    ),
    opensAt: v.optional(instant),
    closesAt: v.optional(instant),
    results: v.optional(results),
    hidden: v.optional(v.boolean()),
    retainVotesDays: v.optional(retainVotesDays),
    lang: v.optional(lang),
    texts: v.optional(strict(texts)),
    colours: v.optional(strict(colours)),
  }),
  v.forward(
    v.partialCheck(
      [['opensAt'], ['closesAt']],
      ({ opensAt, closesAt }) => opensAt === undefined || closesAt === undefined || opensAt < closesAt,
      'must be after opensAt',
    ),
    ['closesAt'],
  ),
);

const pollsFile = strict({
  version: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(2 ** 31 - 1)), 1),
  polls: v.pipe(
    v.array(poll),
    v.minLength(1, 'must be at least one'),
    v.maxLength(POLLS_MAX, `must be at most ${POLLS_MAX}`),
    v.partialCheck([['$', 'id']], hasUniqueIds, REPEATED_ID),
  ),
});

/** What voters choose. */
export interface Choice {
  readonly id: string;
  readonly label: string;
  /** The name of its image, see `Images`. */
  readonly image?: string | undefined;
}

/** A poll as the polls file defines it. Times are milliseconds since 1970; an absent one is no limit. */
export interface Poll {
  readonly id: string;
  readonly question: string;
  readonly choices: readonly Choice[];
  readonly opensAt?: number | undefined;
  readonly closesAt?: number | undefined;
  /** `closed` embargoes the result until it is final; `live`, the default, does not. */
  readonly results?: 'live' | 'closed' | undefined;
  /** A rehearsal: reached by its address, and listed nowhere. */
  readonly hidden?: boolean | undefined;
  /** Days after the final result until the votes are deleted; absent keeps them. */
  readonly retainVotesDays?: number | undefined;
  /** Language of the poll, a BCP 47 tag; English by default. */
  readonly lang?: string | undefined;
  /** Texts of the voting page that replace its own. */
  readonly texts?: Texts | undefined;
  /** The accent of the pages in light and in dark. */
  readonly colours?: Colours | undefined;
}

type Texts = v.InferOutput<v.ObjectSchema<typeof texts, undefined>>;
type Colours = v.InferOutput<v.ObjectSchema<typeof colours, undefined>>;

/** The polls file. A worker applies it only if its version is higher than that of the last one; 1 when absent. */
export interface PollsFile {
  readonly version: number;
  readonly polls: readonly Poll[];
  /** Those that its choices name. */
  readonly images: Images;
}

/** A poll as Postgres holds it and as workers store it in each node's Redis. */
export interface StoredPoll extends Poll {
  /** Raised by every change of the poll, but not by its scheduled close. */
  readonly revision: number;
  /** Whether this revision has closed. It never opens again; a higher revision may. */
  readonly isClosed: boolean;
  /** Order of display; `null` once a newer polls file has withdrawn the poll. */
  readonly position: number | null;
  /** Its votes are deleted once it is final, also from a restored backup. Never revoked. */
  readonly isForgotten?: boolean | undefined;
}

const storedImage = v.fallback(v.optional(v.pipe(v.string(), v.regex(IMAGE_NAME))), undefined);

/**
 * A newer worker may write values that this version does not have. Votes are captured without them: no text, colour or
 * date of deletion makes a poll unreadable, and an unknown rule for the result embargoes it.
 */
const storedPoll = v.object({
  revision: v.pipe(v.number(), v.integer(), v.minValue(1)),
  isClosed: v.boolean(),
  position: v.nullable(v.number()),
  isForgotten: v.optional(v.boolean()),
  question: v.string(),
  choices: v.array(v.object({ id: v.string(), label: v.string(), image: storedImage })),
  opensAt: v.optional(v.number()),
  closesAt: v.optional(v.number()),
  results: v.optional(v.fallback(results, 'closed')),
  hidden: v.optional(v.boolean()),
  retainVotesDays: v.fallback(v.optional(retainVotesDays), undefined),
  lang: v.fallback(v.optional(lang), undefined),
  texts: v.fallback(v.optional(v.object(texts)), undefined),
  colours: v.fallback(v.optional(v.object(colours)), undefined),
});

/** Returns the names of the images of polls that are not withdrawn. */
export function imagesOf(polls: readonly StoredPoll[]): Set<string> {
  const shown = polls.filter(({ position }) => position !== null);
  return new Set(shown.flatMap(({ choices }) => choices.flatMap(({ image }) => image ?? [])));
}

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
  if (result.success) return withImages(result.output, path);
  throw new ConfigError(
    result.issues.map((issue) => {
      const where = v.getDotPath(issue);
      return `polls file ${path}: ${where ? `${where}: ` : ''}${issue.message}`;
    }),
  );
}

/** Reads the images that the choices name. In the file an image is a source, afterwards the name of its content. */
function withImages(file: v.InferOutput<typeof pollsFile>, path: string): PollsFile {
  const images = new Map<string, Uint8Array>();
  const faults: string[] = [];
  const polls = file.polls.map((poll, pollIndex) => ({
    ...poll,
    choices: poll.choices.map(({ image: source, ...choice }, index) => {
      if (source === undefined) return choice;
      try {
        const { name, bytes } = readImage(source, dirname(path));
        images.set(name, bytes);
        return { ...choice, image: name };
      } catch (error) {
        faults.push(
          `polls file ${path}: polls.${pollIndex}.choices.${index}.image: ${(error as Error).message}`,
        );
        return choice;
      }
    }),
  }));
  const bytes = images.values().reduce((sum, { length }) => sum + length, 0);
  if (bytes > IMAGES_BYTES_MAX)
    faults.push(`polls file ${path}: its images have ${bytes} bytes, must have at most ${IMAGES_BYTES_MAX}`);
  if (faults.length > 0) throw new ConfigError(faults);
  return { ...file, polls, images };
}
