import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { NODE_KEY } from '#job';
import { createDatabase, executeAt, type TestDatabase } from '#kit/postgres.ts';
import { startPostgres, type TestPostgres } from '#kit/postgres-server.ts';
import { scratchFolder, untilReady } from '#kit/process.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { storedReceipts } from '#kit/tables.ts';
import { until } from '#kit/until.ts';
import { batch, NODE, vote } from '#kit/votes.ts';
import { enqueue, startWorker, type TestWorker } from '#kit/worker.ts';

const KEY = 'bull:votes:node-aaaaaaaaaaaaa.t0-1.1';

let postgres: TestPostgres;
let database: TestDatabase;
let node: TestRedis;
let folder: string;
const cleanups: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  // Of its own, because the tests change settings of the whole server.
  postgres = await startPostgres();
});
afterAll(() => postgres.remove());
beforeEach(async () => {
  const scratch = await scratchFolder();
  folder = scratch.path;
  node = await startRedis();
  await node.client.set(NODE_KEY, NODE);
  database = await createDatabase('template1', postgres.url);
  cleanups.push(
    scratch.remove,
    () => node.remove(),
    () => database.remove(),
    () => set('alter system reset all'),
  );
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

async function start(): Promise<TestWorker> {
  const worker = await startWorker({ databaseUrl: database.url, nodes: [node], folder });
  cleanups.push(() => worker.end('SIGKILL'));
  return worker;
}

/** Changes settings and reloads the configuration. */
async function set(statement: string): Promise<void> {
  await executeAt(postgres.url, statement);
  await executeAt(postgres.url, 'select pg_reload_conf()');
}

const nameOf = ({ url }: TestDatabase): string => new URL(url).pathname.slice(1);

const untilPaused = (worker: TestWorker, part: string, reason: string) =>
  until('the worker reports why it is not ready', async () => {
    const answer = await worker.ask('/readyz');
    expect(answer.reason[part]).toBe(reason);
    return answer.status === 503;
  });

/** Waits until the worker has fetched the job and its commit has been refused. */
const untilRefused = (worker: TestWorker) =>
  until('a commit is refused', async () => (await worker.lines('commit failed, retrying')).length > 0);

const countReceipts = async () => (await storedReceipts(database.db)).length;

const untilCommitted = () =>
  until('the job is committed and removed', async () => {
    return (await countReceipts()) === 1 && (await node.client.exists(KEY)) === 0;
  });

test.each([
  ['fsync', 'off', 'on'],
  ['full_page_writes', 'off', 'on'],
  ['synchronous_commit', 'off', 'on or local or remote_write or remote_apply'],
])('a worker is not started while %s is %s, and drains once it is safe', async (name, value, safe) => {
  await set(`alter system set ${name} = ${value}`);
  await enqueue(node, batch(1, [vote(1, 'cats', 0)]));
  const worker = await start();
  const message = `Postgres is not durable: ${name} is ${value}, must be ${safe}`;
  await untilPaused(worker, 'postgres', message);
  expect((await worker.ask('/startupz')).status).toBe(503);
  expect(await worker.lines('database not ready, retrying')).toEqual([
    expect.objectContaining({ level: 'warn', error: expect.objectContaining({ message }) }),
  ]);
  expect(await node.client.exists(KEY)).toBe(1);
  await set(`alter system reset ${name}`);
  await untilReady(worker, worker.adminPort);
  await untilCommitted();
});

test('a worker commits nothing while the settings are unsafe at run time, and resumes', async () => {
  const worker = await start();
  await untilReady(worker, worker.adminPort);
  await executeAt(postgres.url, 'alter system set fsync = off');
  await set('alter system set full_page_writes = off');
  const reason = 'Postgres is not durable: fsync is off, must be on; full_page_writes is off, must be on';
  await untilPaused(worker, 'durability', reason);
  expect(await worker.lines('commits paused')).toEqual([expect.objectContaining({ level: 'warn', reason })]);
  expect((await worker.ask('/startupz')).status).toBe(200);

  await enqueue(node, batch(1, [vote(1, 'cats', 0)]));
  await untilRefused(worker);
  expect(await countReceipts()).toBe(0);
  expect(await node.client.exists(KEY)).toBe(1);
  expect(await node.client.zcard('bull:votes:failed')).toBe(0);

  await set('alter system reset all');
  await untilReady(worker, worker.adminPort);
  await untilCommitted();
  expect(await worker.lines('commits resumed')).toHaveLength(1);
});

test('a worker checks a session that replaces a broken one before it commits', async () => {
  const worker = await start();
  await untilReady(worker, worker.adminPort);
  const name = nameOf(database);
  await executeAt(postgres.url, `alter database ${name} set synchronous_commit = off`);
  await executeAt(
    postgres.url,
    `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'turnout-worker'`,
  );
  await enqueue(node, batch(1, [vote(1, 'cats', 0)]));
  await untilRefused(worker);
  expect(await countReceipts()).toBe(0);
  expect(await node.client.exists(KEY)).toBe(1);
  // The sessions that were refused keep the setting; new ones have the mended one.
  await executeAt(postgres.url, `alter database ${name} reset synchronous_commit`);
  await untilCommitted();
});

test.each(['local', 'remote_write', 'remote_apply'])(
  'a worker commits with synchronous_commit %s',
  async (value) => {
    await set(`alter system set synchronous_commit = ${value}`);
    await enqueue(node, batch(1, [vote(1, 'cats', 0)]));
    const worker = await start();
    await untilReady(worker, worker.adminPort);
    await untilCommitted();
  },
);
