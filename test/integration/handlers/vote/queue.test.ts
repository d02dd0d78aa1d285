import { afterEach, describe, expect, test } from 'vitest';
import { Capture, FencedError, NotCapturedError } from '#handlers/vote/capture.ts';
import { VoteQueue } from '#handlers/vote/queue.ts';
import { type Batch, FENCED_KEY, LEDGER_KEY, SEALED_KEY } from '#job';
import { NO_CLOSED_POLLS } from '#kit/capture.ts';
import { recordLog } from '#kit/log.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { until } from '#kit/until.ts';
import { batch, vote } from '#kit/votes.ts';
import { connectFailingFast } from '#runtime/redis.ts';

const SOURCE = 'node-aaaaaaaaaaaaa.t0-1';
const cleanups: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

async function openQueue(extra: readonly string[] = []) {
  const redis = await startRedis(extra);
  cleanups.push(() => redis.remove());
  const { log, lines } = recordLog();
  await redis.client.hset(LEDGER_KEY, SOURCE, '0:0');
  const queue = new VoteQueue(connectFailingFast({ name: 'r', options: { path: redis.socket } }), log);
  cleanups.push(() => queue.close());
  const capture = new Capture({
    source: SOURCE,
    sink: queue,
    polls: NO_CLOSED_POLLS,
    log,
    votesPerJobMax: 500,
    bufferVotesMax: 1_000,
    onFenced: () => {},
  });
  return { redis, queue, capture, lines };
}

const untilOpen = (queue: VoteQueue) => until('the queue is open', () => queue.fault === undefined);
/** The write of the jobs `seqs`, with one vote each. */
function writeOf(...seqs: number[]) {
  const batches: Batch[] = seqs.map((seq) => batch(seq, [vote(seq, 'cats', 0)], SOURCE));
  const last = seqs.at(-1) ?? 0;
  return { source: SOURCE, batches, ledger: { seq: last, votes: last }, seals: [] };
}
const waiting = (redis: TestRedis) => redis.client.llen('bull:votes:wait');

describe('a write', () => {
  test('adds each job once, even when it is repeated', async () => {
    const { redis, queue } = await openQueue();
    await untilOpen(queue);
    await queue.write(writeOf(1, 2));
    await queue.write(writeOf(1, 2));
    expect(await waiting(redis)).toBe(2);
    expect(await redis.client.hgetall('turnout:ledger')).toEqual({ [SOURCE]: '2:2' });
  });

  test('is atomic when memory is full', async () => {
    const { redis, queue } = await openQueue();
    await untilOpen(queue);
    await queue.write(writeOf(1));
    await redis.client.config('SET', 'maxmemory', '1');
    await expect(queue.write(writeOf(2))).rejects.toThrow(/OOM|EXECABORT/);
    expect(await waiting(redis)).toBe(1);
    expect(await redis.client.hgetall('turnout:ledger')).toEqual({ [SOURCE]: '1:1' });

    await redis.client.config('SET', 'maxmemory', '0');
    await queue.write(writeOf(2));
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

describe('a write with seals', () => {
  test('writes them with the jobs, for one source, and needs no jobs', async () => {
    const { redis, queue } = await openQueue();
    await untilOpen(queue);
    const seals = [
      { poll: 'a', revision: 1, seq: 0 },
      { poll: 'b', revision: 7, seq: 0 },
    ];
    await queue.write({ ...writeOf(1), seals });
    await queue.write({
      ...writeOf(),
      ledger: { seq: 1, votes: 1 },
      seals: [{ poll: 'a', revision: 2, seq: 1 }],
    });
    expect(await redis.client.hgetall(SEALED_KEY)).toEqual({
      [`${SOURCE}/a`]: '2:1',
      [`${SOURCE}/b`]: '7:0',
    });
    expect(await redis.client.hget(LEDGER_KEY, SOURCE)).toBe('1:1');
    expect(await waiting(redis)).toBe(1);
  });
});

describe('a write of a source', () => {
  test('that is fenced rejects with FencedError, although it is applied', async () => {
    const { redis, queue } = await openQueue();
    await untilOpen(queue);
    await redis.client.sadd(FENCED_KEY, SOURCE);
    await expect(queue.write(writeOf(1))).rejects.toThrow(FencedError);
    expect(await waiting(redis)).toBe(1);
  });

  test('that workers have forgotten rejects with FencedError', async () => {
    const { redis, queue } = await openQueue();
    await untilOpen(queue);
    await queue.write(writeOf(1));
    await redis.client.hdel(LEDGER_KEY, SOURCE);
    await expect(queue.write(writeOf(2))).rejects.toThrow(FencedError);
  });

  test('is accepted while another source is fenced', async () => {
    const { redis, queue } = await openQueue();
    await untilOpen(queue);
    await redis.client.sadd(FENCED_KEY, 'node-aaaaaaaaaaaaa.t0-2');
    await queue.write(writeOf(1));
    expect(await waiting(redis)).toBe(1);
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
