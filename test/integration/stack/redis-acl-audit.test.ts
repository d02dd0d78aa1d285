import { Redis } from 'ioredis';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { NodeQueues } from '#audit/queues.ts';
import { FENCED_KEY, LEDGER_KEY, NODE_KEY, POLLS_KEY, SEALED_KEY } from '#job';
import { NODE, SOURCE } from '#kit/audit-fixtures.ts';
import { type GuardedRedis, startGuardedRedis } from '#kit/guarded-redis.ts';
import { writeEntry } from '#kit/ledger.ts';
import { recordLog } from '#kit/log.ts';
import { until } from '#kit/until.ts';

let redis: GuardedRedis;
const cleanups: (() => unknown)[] = [];

beforeEach(async () => {
  redis = await startGuardedRedis();
  cleanups.push(() => redis.remove());
  await redis.client.set(NODE_KEY, NODE);
  await redis.client.sadd(FENCED_KEY, SOURCE);
  await writeEntry(redis.client, SOURCE, { seq: 3, votes: 5 });
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

test('the audit reads id, ledger and fences with the rights of the dashboard', async () => {
  const queues = new NodeQueues({
    discover: async () => [redis.address('dashboard')],
    log: recordLog().log,
  });
  cleanups.push(() => queues.close());
  await queues.follow();
  const [queue] = await until('the node answers', () => queues.all[0]?.fault === undefined && queues.all);
  expect(queue?.label).toContain('frontend01 (');
  expect(await queue?.read(true)).toMatchObject({
    fault: undefined,
    id: NODE,
    host: 'frontend01',
    fenced: new Set([SOURCE]),
    ledger: new Map([[SOURCE, { seq: 3, votes: 5 }]]),
  });
});

test('the dashboard writes none of the keys beside the queue', async () => {
  const client = new Redis({ ...redis.address('dashboard').options, enableReadyCheck: false });
  client.on('error', () => {});
  cleanups.push(() => client.disconnect());
  for (const [command, ...args] of [
    ['SET', NODE_KEY, 'x'],
    ['DEL', NODE_KEY],
    ['SADD', FENCED_KEY, 'x'],
    ['SREM', FENCED_KEY, SOURCE],
    ['HSET', LEDGER_KEY, SOURCE, '9:9'],
    ['HDEL', LEDGER_KEY, SOURCE],
    ['HSET', SEALED_KEY, 'x', '1:1'],
    ['HSET', POLLS_KEY, 'x', '{}'],
  ] as const) {
    await expect(client.call(command, ...args), `${command} ${args.join(' ')}`).rejects.toThrow(/^NOPERM/);
  }
});
