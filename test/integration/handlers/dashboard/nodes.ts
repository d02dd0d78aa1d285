import { type Batch, jobKey, NODE_KEY } from '#job';
import { enrolFor, writeJobs } from '#kit/ledger.ts';
import type { TestRedis } from '#kit/redis.ts';
import { batch, vote } from '#kit/votes.ts';
import type { RedisAddress } from '#runtime/redis.ts';

export const addressOf = ({ socket }: TestRedis): RedisAddress => ({
  name: socket,
  options: { path: socket },
});

/** Returns a job with as many votes as its number, by voters that no other job has. */
export function job(source: string, seq: number): Batch {
  const ofSource = [...source].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 1_000_003, 0);
  const firstVoter = ofSource * 1_000 + seq * 100;
  const votes = Array.from({ length: seq }, (_, index) => vote(firstVoter + index, 'cats', index));
  return batch(seq, votes, source);
}

/** Enrols the node of a source, unless the Redis has an id, and adds the source's jobs 1 to `last`. */
export async function capture({ client }: TestRedis, source: string, last: number): Promise<void> {
  if ((await client.get(NODE_KEY)) === null) await enrolFor(client, source);
  const jobs = Array.from({ length: last }, (_, index) => job(source, index + 1));
  await writeJobs(client, source, jobs);
}

/** Removes a waiting job, as a worker does after its commit. */
export async function take({ client }: TestRedis, source: string, seq: number): Promise<void> {
  await client.lrem('bull:votes:wait', 1, jobKey(source, seq));
  await client.del(`bull:votes:${jobKey(source, seq)}`);
}

/** Moves a waiting job to the failed ones, as a worker does with an unreadable job. */
export async function fail({ client }: TestRedis, source: string, seq: number): Promise<void> {
  const id = jobKey(source, seq);
  await client
    .multi()
    .lrem('bull:votes:wait', 1, id)
    .zadd('bull:votes:failed', Date.now(), id)
    .hset(`bull:votes:${id}`, { failedReason: 'no votes', finishedOn: String(Date.now()) })
    .exec();
}
