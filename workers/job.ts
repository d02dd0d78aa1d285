/**
 * The contract between the handlers that capture votes and the workers that count them. Neither side imports anything
 * else from the other.
 */

export const QUEUE_NAME = 'votes';
export const JOB_NAME = 'batch';
/** Version of the data of a job. Raise it for every change that an older worker would misread. */
export const JOB_VERSION = 2;

// Beside the queue, each node's Redis holds these keys. Handlers write ledger, seals and applied revisions, workers the rest.

/** The id proposed for a node that is not enrolled yet: workers that race agree on it. */
export const CANDIDATE_KEY = 'turnout:candidate';
/** The id of the node. It is present if and only if the node is enrolled. */
export const NODE_KEY = 'turnout:node';
/** A hash: source → `<seq>:<votes>`, its totals so far. `0:0` registers a source that has written nothing. */
export const LEDGER_KEY = 'turnout:ledger';
/** A hash: `<source>/<poll>` → `<revision>:<seq>`, see `Seal`. */
export const SEALED_KEY = 'turnout:sealed';
/** A hash: source → the revision of each poll that it has applied, see `formatApplied`. For operators; it decides nothing. */
export const APPLIED_KEY = 'turnout:applied';
/** The set of sources that must not accept votes any more. */
export const FENCED_KEY = 'turnout:fenced';
/** A hash: poll → its definition and state, see `formatStoredPoll`. */
export const POLLS_KEY = 'turnout:polls';
/** A hash: the name of an image → its bytes, see `stack/runtime/images.ts`. */
export const IMAGES_KEY = 'turnout:images';

/** One vote: poll, voter (UUID), choice, and the time it was cast in microseconds since 1970. */
export type Vote = readonly [poll: string, voter: string, choice: string, castAt: number];

/** A batch of votes, and the key that makes it count once. */
export interface Batch {
  readonly source: string;
  readonly seq: number;
  readonly votes: readonly Vote[];
}

/** An invalid vote inside a readable job, as received. */
export interface MalformedVote {
  readonly malformed: unknown;
}

/** A batch as read back from a queue. Every vote keeps its position, malformed ones included. */
export interface ReceivedBatch {
  readonly source: string;
  readonly seq: number;
  readonly votes: readonly (Vote | MalformedVote)[];
}

/** The data of a job. */
export interface JobData extends Batch {
  readonly v: typeof JOB_VERSION;
}

/** The job's data is not a batch. Retrying does not help. */
export class UnreadableJobError extends Error {
  override readonly name = 'UnreadableJobError';
}

/** The job's data has another format version, so its fields may mean something else. A worker of that version reads it. */
export class JobVersionError extends Error {
  override readonly name = 'JobVersionError';

  constructor(version: unknown) {
    // Only numbers, because other data may hold a secret and the message is logged.
    const found = typeof version === 'number' ? `format version ${version}` : 'no format version';
    super(`job has ${found}, expected ${JOB_VERSION}`);
  }
}

/** 64 random bits in base 32. */
const NODE_ID = /^[a-z2-7]{13}$/;
/** `<node name>-<node id>.<process epoch>`. */
const SOURCE = /^([A-Za-z0-9][A-Za-z0-9.-]{0,62})-([a-z2-7]{13})\.[a-z0-9]{1,16}-[a-z0-9]{1,16}$/;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const ID_CHARACTERS_MAX = 200;
/** The year 9999; `timestamptz` reaches further. */
const CAST_AT_MAX = Date.UTC(9999, 0, 1) * 1_000;
/** Largest job that a worker accepts, in votes: above `VOTES_PER_JOB_CEILING`, so that a newer handler may raise that first. */
export const JOB_VOTES_MAX = 10_000;

/** Returns the key of a job, `<source>.<seq>`: BullMQ job id, key of the row in `receipts`, and the voter's receipt. */
export function jobKey(source: string, seq: number): string {
  return `${source}.${seq}`;
}

/** Splits a job key into source and sequence number; `undefined` when it is not a job key. */
export function parseJobKey(key: string): { source: string; seq: number } | undefined {
  const dot = key.lastIndexOf('.');
  const source = key.slice(0, dot);
  const digits = key.slice(dot + 1);
  if (dot < 0 || !SOURCE.test(source) || !/^[1-9]\d{0,14}$/.test(digits)) return undefined;
  return { source, seq: Number(digits) };
}

/** Returns whether the text has the form of a node id. */
export function isNodeId(text: unknown): text is string {
  return typeof text === 'string' && NODE_ID.test(text);
}

/** Returns the name of a source, see `Batch.source`. No two processes share an epoch. */
export function sourceName(nodeName: string, nodeId: string, epoch: string): string {
  return `${nodeName}-${nodeId}.${epoch}`;
}

/**
 * Returns the node of a source. The name is its host's, for people; only the id is unique.
 *
 * @throws RangeError when the text is not a source name
 */
export function nodeOf(source: string): { readonly name: string; readonly id: string } {
  const [, name, id] = SOURCE.exec(source) ?? [];
  if (name === undefined || id === undefined) throw new RangeError(`not a source: ${source}`);
  return { name, id };
}

/** Returns when a source started, in milliseconds since 1970 by its clock: the first part of its epoch. */
export function startOf(source: string): number {
  return Number.parseInt(source.slice(source.lastIndexOf('.') + 1), 36);
}

/** A source accepts no more votes for this revision of a poll; its votes for it are in the jobs up to `seq`. */
export interface Seal {
  readonly revision: number;
  readonly seq: number;
}

/** Returns the field of a seal in the hash of seals. */
export function sealField(source: string, poll: string): string {
  return `${source}/${poll}`;
}

/** Returns a seal as a value of the hash of seals. */
export function formatSeal({ revision, seq }: Seal): string {
  return `${revision}:${seq}`;
}

/** Parses a node's hash of seals into seals by source and poll. Fields and values of any other form are skipped. */
export function readSeals(
  fields: Readonly<Record<string, string>>,
): { readonly source: string; readonly poll: string; readonly seal: Seal }[] {
  return Object.entries(fields).flatMap(([field, value]) => {
    const slash = field.indexOf('/');
    const match = /^(\d{1,9}):(\d{1,15})$/.exec(value);
    const source = field.slice(0, slash);
    if (slash < 0 || !match || !isSource(source)) return [];
    const seal = { revision: Number(match[1]), seq: Number(match[2]) };
    return [{ source, poll: field.slice(slash + 1), seal }];
  });
}

/** A revision of a poll that a source has applied, and when, in milliseconds since 1970 by its clock. */
export interface Applied {
  readonly revision: number;
  readonly at: number;
}

/** Returns what a source has applied, by poll, as a value of the hash of applied revisions. */
export function formatApplied(applied: ReadonlyMap<string, Applied>): string {
  return JSON.stringify(
    Object.fromEntries(Array.from(applied, ([poll, { revision, at }]) => [poll, [revision, at]])),
  );
}

/** Parses a node's hash of applied revisions, by source and poll. Fields and values of any other form are skipped. */
export function readApplied(
  fields: Readonly<Record<string, string>>,
): Map<string, ReadonlyMap<string, Applied>> {
  const sources = new Map<string, ReadonlyMap<string, Applied>>();
  for (const [source, value] of Object.entries(fields)) {
    if (isSource(source)) sources.set(source, new Map(parseApplied(value)));
  }
  return sources;
}

function parseApplied(value: string): [string, Applied][] {
  let json: unknown;
  try {
    json = JSON.parse(value);
  } catch {
    return [];
  }
  if (typeof json !== 'object' || json === null) return [];
  return Object.entries(json).flatMap(([poll, entry]: [string, unknown]) => {
    const [revision, at] = Array.isArray(entry) ? (entry as unknown[]) : [];
    return Number.isSafeInteger(revision) && Number.isSafeInteger(at)
      ? [[poll, { revision: revision as number, at: at as number }] as [string, Applied]]
      : [];
  });
}

/**
 * Returns the name that a handler gives its connection to its node's Redis. While Redis lists it, the source of this epoch runs,
 * or is frozen: its end closes the connection.
 */
export function connectionName(epoch: string): string {
  return `turnout-vote.${epoch}`;
}

/** The totals of a source: the sequence number of its last job, and the votes in all its jobs. */
export interface LedgerEntry {
  readonly seq: number;
  readonly votes: number;
}

/** Returns an entry as a value of the ledger hash. */
export function formatLedgerEntry({ seq, votes }: LedgerEntry): string {
  return `${seq}:${votes}`;
}

/** Parses a value of the ledger hash; `undefined` when it is not an entry. */
export function parseLedgerEntry(value: string): LedgerEntry | undefined {
  const match = /^(\d{1,15}):(\d{1,15})$/.exec(value);
  return match ? { seq: Number(match[1]), votes: Number(match[2]) } : undefined;
}

/** Parses a node's ledger hash into entries by source. Fields and values of any other form are skipped. */
export function readLedger(fields: Readonly<Record<string, string>>): Map<string, LedgerEntry> {
  const ledger = new Map<string, LedgerEntry>();
  for (const [source, value] of Object.entries(fields)) {
    const entry = parseLedgerEntry(value);
    if (entry && isSource(source)) ledger.set(source, entry);
  }
  return ledger;
}

/** Returns whether the text has the form of a source name. */
export function isSource(text: string): boolean {
  return SOURCE.test(text);
}

/** Returns a batch as the data of a job. */
export function encodeBatch({ source, seq, votes }: Batch): JobData {
  return { v: JOB_VERSION, source, seq, votes };
}

/**
 * Parses a job's data. The producer may run another version, so everything is validated again. An invalid vote comes
 * back as `malformed` and does not affect the other votes of its job.
 *
 * @throws JobVersionError when the data has another format version or none
 * @throws UnreadableJobError when the data is not a batch
 */
export function parseBatch(data: unknown): ReceivedBatch {
  if (typeof data !== 'object' || data === null) throw new UnreadableJobError('job data is not an object');
  const { v, source, seq, votes } = data as Record<string, unknown>;
  if (v !== JOB_VERSION) throw new JobVersionError(v);
  if (typeof source !== 'string' || !SOURCE.test(source))
    throw new UnreadableJobError('source is missing or malformed');
  if (!Number.isSafeInteger(seq) || (seq as number) < 1)
    throw new UnreadableJobError('seq is not a positive integer');
  if (!Array.isArray(votes) || votes.length === 0) throw new UnreadableJobError('job has no votes');
  if (votes.length > JOB_VOTES_MAX) {
    throw new UnreadableJobError(`job has ${votes.length} votes, at most ${JOB_VOTES_MAX} are allowed`);
  }

  const received = votes.map((vote: unknown) => (isVote(vote) ? vote : { malformed: vote }));
  return { source, seq: seq as number, votes: received };
}

/** Narrows a received vote to a well-formed one. */
export function isWellFormed(vote: Vote | MalformedVote): vote is Vote {
  return Array.isArray(vote);
}

function isVote(vote: unknown): vote is Vote {
  if (!Array.isArray(vote) || vote.length !== 4) return false;
  const [poll, voter, choice, castAt] = vote as unknown[];
  return (
    isId(poll) &&
    typeof voter === 'string' &&
    UUID.test(voter) &&
    isId(choice) &&
    Number.isSafeInteger(castAt) &&
    (castAt as number) >= 0 &&
    (castAt as number) <= CAST_AT_MAX
  );
}

/** Returns whether Postgres can store the text as an id: short, no NUL, no lone surrogate. */
function isId(text: unknown): text is string {
  return (
    typeof text === 'string' &&
    text.length <= ID_CHARACTERS_MAX &&
    !text.includes('\0') &&
    text.isWellFormed()
  );
}
