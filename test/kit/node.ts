import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { ROOT } from '#dev/root.ts';
import { FENCED_KEY, NODE_KEY, POLLS_KEY } from '#job';
import {
  formatStoredPoll,
  type Poll,
  parseStoredPoll,
  readPollsFile,
  type StoredPoll,
} from '#runtime/polls.ts';
import { storedPoll } from './polls.ts';

const POLLS_FILE = join(ROOT, 'stack/polls.json');
const BASE_32 = 'abcdefghijklmnopqrstuvwxyz234567';
const ID_CHARACTERS = 13;

export interface Enrolment {
  /** The polls of `stack/polls.json` by default. */
  readonly polls?: readonly (Poll & Partial<StoredPoll>)[];
  /** A random one by default. */
  readonly id?: string;
}

/**
 * Enrols a node as a worker does, without Postgres: for handlers that run without a worker. Does nothing to a node that is
 * enrolled already.
 *
 * @returns the id of the node
 */
export async function enrolNode(redis: Redis, options: Enrolment = {}): Promise<string> {
  const { polls = readPollsFile(POLLS_FILE).polls, id = randomNodeId() } = options;
  const known = await redis.get(NODE_KEY);
  if (known !== null) return known;
  for (const [position, poll] of polls.entries()) await storePoll(redis, storedPoll(poll, position));
  await redis.set(NODE_KEY, id);
  return id;
}

/** Writes a poll to the node. */
async function storePoll(redis: Redis, poll: StoredPoll): Promise<void> {
  await redis.hset(POLLS_KEY, poll.id, formatStoredPoll(poll));
}

/** Changes a poll of the node. Gives it no new revision: `change` has one where the change is not just a close. */
export async function changePoll(redis: Redis, id: string, change: Partial<StoredPoll>): Promise<void> {
  const poll = parseStoredPoll(id, (await redis.hget(POLLS_KEY, id)) ?? '');
  if (!poll) throw new Error(`the node has no poll ${id}`);
  await storePoll(redis, { ...poll, ...change });
}

/** Fences sources of the node. */
export async function fenceSources(redis: Redis, ...sources: readonly string[]): Promise<void> {
  await redis.sadd(FENCED_KEY, ...sources);
}

/** Returns a random node id. */
function randomNodeId(): string {
  return Array.from(randomBytes(ID_CHARACTERS), (byte) => BASE_32[byte % BASE_32.length]).join('');
}
