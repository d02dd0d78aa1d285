import { afterEach, describe, expect, test } from 'vitest';
import { Capture, NotCapturedError } from '#handlers/vote/capture.ts';
import { VoteQueue } from '#handlers/vote/queue.ts';
import { recordLog } from '#kit/log.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { until } from '#kit/until.ts';
import { batch, vote } from '#kit/votes.ts';
import { connectFailingFast } from '#runtime/redis.ts';

const SOURCE = 'node.t0-1';
const cleanups: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

async function openQueue(extra: readonly string[] = []) {
  const redis = await startRedis(extra);
  cleanups.push(() => redis.remove());
  const { log, lines } = recordLog();
  const queue = new VoteQueue(
    connectFailingFast({ name: 'r', options: { path: redis.socket } }),
    SOURCE,
    log,
  );
  cleanups.push(() => queue.close());
  const capture = new Capture({
    source: SOURCE,
    sink: queue,
    log,
    votesPerJobMax: 500,
    bufferVotesMax: 1_000,
  });
  return { redis, queue, capture, lines };
}

const untilOpen = (queue: VoteQueue) => until('the queue is open', () => queue.fault === undefined);
const waiting = (redis: TestRedis) => redis.client.llen('bull:votes:wait');

describe('a write', () => {
  test('adds each job once, even when it is repeated', async () => {
    const { redis, queue } = await openQueue();
    await untilOpen(queue);
    const jobs = [batch(1, [vote(1, 'cats', 0)]), batch(2, [vote(2, 'cats', 0)])];
    await queue.write(jobs, { seq: 2, votes: 2 });
    await queue.write(jobs, { seq: 2, votes: 2 });
    expect(await waiting(redis)).toBe(2);
    expect(await redis.client.hgetall('turnout:ledger')).toEqual({ [SOURCE]: '2:2' });
  });

  test('is atomic when memory is full', async () => {
    const { redis, queue } = await openQueue();
    await untilOpen(queue);
    await queue.write([batch(1, [vote(1, 'cats', 0)])], { seq: 1, votes: 1 });
    await redis.client.config('SET', 'maxmemory', '1');
    const second = [batch(2, [vote(2, 'cats', 0)])];
    await expect(queue.write(second, { seq: 2, votes: 2 })).rejects.toThrow(/OOM|EXECABORT/);
    expect(await waiting(redis)).toBe(1);
    expect(await redis.client.hgetall('turnout:ledger')).toEqual({ [SOURCE]: '1:1' });

    await redis.client.config('SET', 'maxmemory', '0');
    await queue.write(second, { seq: 2, votes: 2 });
    expect(await waiting(redis)).toBe(2);
  });

  test('succeeds on retry after memory was full', async () => {
    const { redis, queue, capture } = await openQueue();
    await untilOpen(queue);
    await redis.client.config('SET', 'maxmemory', '1');
    const captured = capture.capture(vote(1, 'cats', 0));
    await until('the write has failed', () => capture.refusal !== undefined);
    await redis.client.config('SET', 'maxmemory', '0');
    expect(await captured).toBe(`${SOURCE}.1`);
    expect(await waiting(redis)).toBe(1);
  });

  test('succeeds after SCRIPT FLUSH', async () => {
    const { redis, queue, capture } = await openQueue();
    await untilOpen(queue);
    await capture.capture(vote(1, 'cats', 0));
    await redis.client.script('FLUSH');
    expect(await capture.capture(vote(2, 'cats', 0))).toBe(`${SOURCE}.2`);
    expect(await waiting(redis)).toBe(2);
  });
});

describe('when Redis goes down', () => {
  test('refuses votes at once, accepts them again after the restart, and loses nothing', async () => {
    const { redis, queue, capture } = await openQueue();
    await untilOpen(queue);
    await capture.capture(vote(1, 'cats', 0));
    await redis.down('SIGKILL');
    await until('the queue has a fault', () => queue.fault !== undefined);
    await expect(capture.capture(vote(2, 'cats', 0))).rejects.toThrow(NotCapturedError);

    await redis.up();
    await untilOpen(queue);
    expect(await capture.capture(vote(3, 'cats', 0))).toBe(`${SOURCE}.2`);
    expect(await redis.client.hget('turnout:ledger', SOURCE)).toBe('2:2');
    expect(await waiting(redis)).toBe(2);
  });

  test('during a write, retries the same job', async () => {
    const { redis, queue, capture } = await openQueue();
    await untilOpen(queue);
    redis.process.child.kill('SIGSTOP');
    const captured = capture.capture(vote(1, 'cats', 0));
    await until('the write is in flight', () => capture.waitingVotes.inFlight === 1);
    await redis.down('SIGKILL');
    await redis.up();
    expect(await captured).toBe(`${SOURCE}.1`);
    expect(await waiting(redis)).toBe(1);
  });
});

describe('a Redis that is not durable', () => {
  test.each([
    ['appendonly', 'no', 'appendonly is no, must be yes'],
    ['appendfsync', 'everysec', 'appendfsync is everysec, must be always'],
    ['no-appendfsync-on-rewrite', 'yes', 'no-appendfsync-on-rewrite is yes, must be no'],
    ['maxmemory-policy', 'allkeys-lru', 'maxmemory-policy is allkeys-lru, must be noeviction'],
  ])('with %s %s is logged once, and votes are refused', async (name, value, message) => {
    const { queue, capture, lines } = await openQueue([`--${name}`, value]);
    await until('the setting is noticed', () => queue.fault?.includes(message));
    await expect(capture.capture(vote(1, 'cats', 0))).rejects.toThrow(NotCapturedError);
    expect(lines.filter((line) => JSON.stringify(line).includes(message))).toHaveLength(1);
  });

  test('is noticed when its settings change at run time', async () => {
    const { redis, queue } = await openQueue();
    await untilOpen(queue);
    await redis.client.config('SET', 'appendonly', 'no');
    await until('the setting is noticed', () => queue.fault?.includes('appendonly is no'));
  });

  test('that does not report its settings is asked repeatedly, by a single queue', async () => {
    const { redis, queue } = await openQueue(['--rename-command', 'CONFIG', '']);
    const refusals = async (): Promise<number> =>
      Number(/errorstat_ERR:count=(\d+)/.exec(await redis.client.info('errorstats'))?.[1] ?? 0);
    await until('it was asked', () => queue.fault?.includes('does not report its settings'));
    // Each BullMQ queue that is opened writes its version there.
    await until('the queue is open', () => redis.client.exists('bull:votes:meta').then(Boolean));
    await redis.client.del('bull:votes:meta');
    const before = await refusals();
    await until('it was asked twice more', async () => (await refusals()) >= before + 2);
    expect(await redis.client.exists('bull:votes:meta')).toBe(0);
  });

  test('is accepted once its settings are fixed', async () => {
    const { redis, queue } = await openQueue(['--appendfsync', 'everysec']);
    await until('the setting is noticed', () => queue.fault?.includes('appendfsync'));
    await redis.client.config('SET', 'appendfsync', 'always');
    await untilOpen(queue);
  });
});

test('votes are refused when memory is nearly full, before Redis rejects writes', async () => {
  const { redis, queue } = await openQueue();
  await untilOpen(queue);
  const used = Number(/^used_memory:(\d+)/m.exec(await redis.client.info('memory'))?.[1]);
  await redis.client.config('SET', 'maxmemory', String(Math.round(used / 0.95)));
  await until('the fault is reported', () => queue.fault === "the queue's memory is nearly full");
  await redis.client.config('SET', 'maxmemory', String(used * 2));
  await untilOpen(queue);
});
