import type { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NOT_ENROLLED, NodeReader, READ_INTERVAL_MS, registerSource } from '#handlers/vote/node.ts';
import { PollBook } from '#handlers/vote/polls.ts';
import { APPLIED_KEY, FENCED_KEY, IMAGES_KEY, LEDGER_KEY, NODE_KEY, readApplied, sourceName } from '#job';
import { PIXEL, PIXEL_NAME } from '#kit/images.ts';
import { recordLog } from '#kit/log.ts';
import { changePoll, enrolNode, fenceSources } from '#kit/node.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { until } from '#kit/until.ts';
import { POLL } from '#kit/votes.ts';
import { connectFailingFast } from '#runtime/redis.ts';

const ID = 'aaaaaaaaaaaaa';
const OTHER_ID = 'bbbbbbbbbbbbb';
const EPOCH = 't0-1';
const SOURCE = sourceName('one', ID, EPOCH);
const HOUR_MS = 3_600_000;
/** A second, and as much as a loaded machine may add. */
const CHANGE_MS_MAX = 2 * READ_INTERVAL_MS + 2_000;

let redis: TestRedis;
let client: Redis;
const cleanups: (() => unknown)[] = [];

beforeEach(async () => {
  redis = await startRedis();
  client = connectFailingFast({ name: 'r', options: { path: redis.socket } });
  client.on('error', () => {});
  await until('it is connected', () => client.status === 'ready');
  cleanups.push(
    () => redis.remove(),
    () => client.disconnect(),
  );
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

describe('registerSource', () => {
  const reasons: string[] = [];

  async function register(connection: Redis = client, fault: () => string | undefined = () => undefined) {
    reasons.length = 0;
    const onWait = (reason: string) => reasons.push(reason);
    const { log } = recordLog();
    return registerSource({ redis: connection, nodeName: 'one', epoch: EPOCH, fault, onWait, log });
  }

  test('waits until the node is enrolled, then writes an empty ledger entry', async () => {
    const registered = register();
    await until('it waits', () => reasons.length > 1);
    expect(new Set(reasons)).toEqual(new Set([NOT_ENROLLED]));
    expect(await redis.client.exists(LEDGER_KEY)).toBe(0);
    await enrolNode(redis.client, { id: ID });
    expect(await registered).toBe(SOURCE);
    expect(await redis.client.hgetall(LEDGER_KEY)).toEqual({ [SOURCE]: '0:0' });
  });

  test('reads nothing while Redis has a fault', async () => {
    await enrolNode(redis.client, { id: ID });
    let fault: string | undefined = "the queue's Redis is not durable";
    const registered = register(client, () => fault);
    await until('it waits', () => reasons.length > 1);
    expect(await redis.client.exists(LEDGER_KEY)).toBe(0);
    fault = undefined;
    expect(await registered).toBe(SOURCE);
  });

  test.each<[string, string | undefined]>([
    ['another id', OTHER_ID],
    ['no id for a while', undefined],
  ])('starts again when the node has %s by the time of the write', async (_, between) => {
    await enrolNode(redis.client, { id: ID });
    let reads = 0;
    const changing = new Proxy(client, {
      get: (target, name) => {
        if (name !== 'get') return (target[name as 'multi'] as () => unknown).bind(target);
        return async (key: string) => {
          const id = await target.get(key);
          reads += 1;
          if (reads === 1 && between) await redis.client.set(NODE_KEY, between);
          if (reads === 1 && !between) await redis.client.del(NODE_KEY);
          if (reads === 2 && !between) await redis.client.set(NODE_KEY, OTHER_ID);
          return id;
        };
      },
    });
    expect(await register(changing)).toBe(sourceName('one', OTHER_ID, EPOCH));
    expect(await redis.client.hget(LEDGER_KEY, sourceName('one', OTHER_ID, EPOCH))).toBe('0:0');
  });

  test('retries while Redis refuses the entry', async () => {
    await enrolNode(redis.client, { id: ID });
    await redis.client.set(LEDGER_KEY, 'not a hash');
    const registered = register();
    await until('it waits', () => reasons.some((reason) => reason.includes('WRONGTYPE')));
    await redis.client.del(LEDGER_KEY);
    expect(await registered).toBe(SOURCE);
  });
});

describe('NodeReader', () => {
  let now: number;
  let polls: PollBook;
  let reader: NodeReader;
  let ticks: number;
  let fences: number;

  beforeEach(async () => {
    await enrolNode(redis.client, { id: ID });
    await redis.client.hset(LEDGER_KEY, SOURCE, '0:0');
    now = 0;
    ticks = 0;
    fences = 0;
    const { log } = recordLog();
    polls = new PollBook(log, () => now);
    reader = new NodeReader({
      redis: client,
      source: SOURCE,
      polls,
      log,
      onTick: () => {
        ticks += 1;
      },
      onFenced: () => {
        fences += 1;
      },
    });
    cleanups.push(() => reader.stop());
  });

  test('has the polls when it has started, and follows their changes within a second', async () => {
    await reader.start();
    expect(polls.phaseOf(POLL)).toBe('open');
    await changePoll(redis.client, POLL, { isClosed: true });
    await until('the poll is closed', () => polls.isClosed(POLL), CHANGE_MS_MAX);
    await changePoll(redis.client, POLL, { revision: 2, isClosed: false, question: 'Again?' });
    await until('the poll is open', () => polls.phaseOf(POLL) === 'open', CHANGE_MS_MAX);
    expect(polls.get(POLL)?.question).toBe('Again?');
    expect(fences).toBe(0);
  });

  test('has the images of the polls, soon after they are in its Redis, and drops those that no poll names', async () => {
    const pixel = Buffer.from(PIXEL, 'base64');
    await reader.start();
    await changePoll(redis.client, POLL, {
      revision: 2,
      choices: [{ id: 'a', label: 'A', image: PIXEL_NAME }],
    });
    await until('the poll is read', () => polls.get(POLL)?.revision === 2, CHANGE_MS_MAX);
    expect(polls.image(PIXEL_NAME)).toBeUndefined();
    await redis.client.hset(IMAGES_KEY, PIXEL_NAME, pixel);
    await until('the image is read', () => polls.image(PIXEL_NAME) !== undefined, CHANGE_MS_MAX);
    expect(Buffer.from(polls.image(PIXEL_NAME) ?? [])).toEqual(pixel);
    await changePoll(redis.client, POLL, { revision: 3, choices: [{ id: 'a', label: 'A' }] });
    await until('the image is dropped', () => polls.image(PIXEL_NAME) === undefined, CHANGE_MS_MAX);
  });

  test('records the revisions that it has applied, once after each change', async () => {
    const applied = async () =>
      readApplied(await redis.client.hgetall(APPLIED_KEY))
        .get(SOURCE)
        ?.get(POLL);
    now = 1_000;
    await reader.start();
    await until('the first is recorded', async () => (await applied())?.revision === 1, CHANGE_MS_MAX);
    now = 2_000;
    await changePoll(redis.client, POLL, { revision: 2, question: 'Again?' });
    await until('the second is recorded', async () => (await applied())?.revision === 2, CHANGE_MS_MAX);
    expect(await applied()).toEqual({ revision: 2, at: 2_000 });
    await redis.client.del(APPLIED_KEY);
    const before = ticks;
    await until('it has ticked', () => ticks > before + 1);
    expect(await applied()).toBeUndefined();
  });

  test('records what it has applied later when Redis refuses it', async () => {
    await redis.client.set(APPLIED_KEY, 'not a hash');
    await reader.start();
    const before = ticks;
    await until('it has ticked', () => ticks > before + 1);
    await redis.client.del(APPLIED_KEY);
    const isRecorded = async () => (await redis.client.hexists(APPLIED_KEY, SOURCE)) === 1;
    await until('it is recorded', isRecorded, CHANGE_MS_MAX);
    expect(polls.phaseOf(POLL)).toBe('open');
  });

  test('starts once Redis answers', async () => {
    await redis.client.del(LEDGER_KEY);
    await redis.client.set(LEDGER_KEY, 'not a hash');
    const started = reader.start();
    await new Promise((resolve) => setTimeout(resolve, 0));
    await redis.client.del(LEDGER_KEY);
    await redis.client.hset(LEDGER_KEY, SOURCE, '0:0');
    await started;
    expect(polls.get(POLL)?.revision).toBe(1);
  });

  test('keeps the polls while Redis is away, and closes them by the clock', async () => {
    await changePoll(redis.client, POLL, { closesAt: HOUR_MS });
    await reader.start();
    await redis.down('SIGKILL');
    const before = ticks;
    await until('reads have failed', () => ticks > before + 1);
    expect(polls.phaseOf(POLL)).toBe('open');
    now = HOUR_MS;
    await until('the poll is latched', () => polls.unsealed.length === 1);
    await redis.up();
    await changePoll(redis.client, POLL, { revision: 2, question: 'Again?', closesAt: 2 * HOUR_MS });
    await until('the polls are read again', () => polls.phaseOf(POLL) === 'open');
  });

  test('closes polls by the clock while Redis hangs, with one read and one record in flight', async () => {
    await changePoll(redis.client, POLL, { closesAt: HOUR_MS });
    await reader.start();
    redis.process.child.kill('SIGSTOP');
    try {
      const before = ticks;
      await until('it ticks', () => ticks > before + 1);
      now = HOUR_MS;
      await until('the poll is latched', () => polls.unsealed.length === 1);
      const { length } = (client as unknown as { commandQueue: { length: number } }).commandQueue;
      // MULTI, three reads, EXEC, and the record of what was applied
      expect(length).toBeLessThanOrEqual(6);
    } finally {
      redis.process.child.kill('SIGCONT');
    }
  });

  test.each<[string, () => Promise<unknown>]>([
    ['fenced', () => fenceSources(redis.client, SOURCE)],
    ['forgotten by workers', () => redis.client.hdel(LEDGER_KEY, SOURCE)],
  ])('reports that its source is %s', async (_, fence) => {
    await fenceSources(redis.client, 'one-aaaaaaaaaaaaa.t0-2');
    await reader.start();
    expect(fences).toBe(0);
    await fence();
    await until('it is reported', () => fences > 0, CHANGE_MS_MAX);
    expect(await redis.client.exists(FENCED_KEY)).toBe(1);
  });
});
