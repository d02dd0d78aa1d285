/**
 * The contract between the handlers that capture votes and the workers that count them. Both sides import this file
 * and nothing else of each other.
 */

export const QUEUE_NAME = 'votes';
export const JOB_NAME = 'batch';

/** The hash in each node's Redis that holds, for every source, `<seq>:<votes>` captured so far. */
export const LEDGER_KEY = 'turnout:ledger';

/** One vote: poll, voter (UUID), choice, and when it was cast in microseconds since 1970. */
export type Vote = readonly [poll: string, voter: string, choice: string, castAt: number];

/** The data of a job: votes that travel together, and the key by which they count once. */
export interface Batch {
  readonly source: string;
  readonly seq: number;
  readonly votes: readonly Vote[];
}

/** A vote inside a readable job that Postgres could not take, as it was found. */
export interface MalformedVote {
  readonly malformed: unknown;
}

/** A job as read back from a queue. Its votes keep their places, the malformed ones too. */
export interface ReceivedBatch {
  readonly source: string;
  readonly seq: number;
  readonly votes: readonly (Vote | MalformedVote)[];
}

/** A job that nobody can read. Trying again does not help. */
export class UnreadableJobError extends Error {
  override readonly name = 'UnreadableJobError';
}

const SOURCE = /^[A-Za-z0-9][A-Za-z0-9.-]{0,62}\.[a-z0-9]{1,16}-[a-z0-9]{1,16}$/;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
const ID_CHARACTERS_MAX = 200;
/** The year 9999: what a `timestamptz` surely holds. */
const CAST_AT_MAX = Date.UTC(9999, 0, 1) * 1_000;
/** The most votes that a job may hold. Handlers assert that theirs never exceed it. */
export const VOTES_MAX = 10_000;

/** The key of a job: `<source>.<seq>`. It is the BullMQ job id, the key of its receipt in Postgres, and the voter's receipt. */
export function jobKey(source: string, seq: number): string {
  return `${source}.${seq}`;
}

/** Takes a job key apart again; `undefined` when it is not one. */
export function parseJobKey(key: string): { source: string; seq: number } | undefined {
  const dot = key.lastIndexOf('.');
  const source = key.slice(0, dot);
  const digits = key.slice(dot + 1);
  if (dot < 0 || !SOURCE.test(source) || !/^[1-9]\d{0,14}$/.test(digits)) return undefined;
  return { source, seq: Number(digits) };
}

/** The node that a source ran on: all of the source before its epoch. */
export function nodeOf(source: string): string {
  return source.slice(0, source.lastIndexOf('.'));
}

/** What a source has captured so far: the number of its last job, and the votes in all of its jobs. */
export interface LedgerEntry {
  readonly seq: number;
  readonly votes: number;
}

export function formatLedgerEntry({ seq, votes }: LedgerEntry): string {
  return `${seq}:${votes}`;
}

/** Reads one value of the ledger hash; `undefined` when it is not one. */
export function parseLedgerEntry(value: string): LedgerEntry | undefined {
  const match = /^(\d{1,15}):(\d{1,15})$/.exec(value);
  return match ? { seq: Number(match[1]), votes: Number(match[2]) } : undefined;
}

/** Reads the ledger hash of a node, by source. What cannot be read is left out: it is not ours. */
export function readLedger(fields: Readonly<Record<string, string>>): Map<string, LedgerEntry> {
  const ledger = new Map<string, LedgerEntry>();
  for (const [source, value] of Object.entries(fields)) {
    const entry = parseLedgerEntry(value);
    if (entry && isSource(source)) ledger.set(source, entry);
  }
  return ledger;
}

/** Whether a ledger field is the name of a source. */
export function isSource(text: string): boolean {
  return SOURCE.test(text);
}

/**
 * Reads a job's data. The other side may be another version, so everything is checked again. One bad vote does not
 * spoil its job: it comes back as `malformed`, and the rest counts.
 *
 * @throws UnreadableJobError when there is no batch in it at all
 */
export function parseBatch(data: unknown): ReceivedBatch {
  if (typeof data !== 'object' || data === null) throw new UnreadableJobError('the data is not an object');
  const { source, seq, votes } = data as Record<string, unknown>;
  if (typeof source !== 'string' || !SOURCE.test(source)) throw new UnreadableJobError('no valid source');
  if (!Number.isSafeInteger(seq) || (seq as number) < 1) throw new UnreadableJobError('no valid seq');
  if (!Array.isArray(votes) || votes.length === 0) throw new UnreadableJobError('no votes');
  if (votes.length > VOTES_MAX) throw new UnreadableJobError(`more than ${VOTES_MAX} votes`);

  const received = votes.map((vote: unknown) => (isVote(vote) ? vote : { malformed: vote }));
  return { source, seq: seq as number, votes: received };
}

/** Tells a sound vote from a malformed one. */
export function isSound(vote: Vote | MalformedVote): vote is Vote {
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

/** Text that Postgres can hold: short, no NUL, no half of a surrogate pair. */
function isId(text: unknown): text is string {
  return (
    typeof text === 'string' &&
    text.length <= ID_CHARACTERS_MAX &&
    !text.includes('\0') &&
    text.isWellFormed()
  );
}
