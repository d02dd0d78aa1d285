import { join } from 'node:path';
import { Queue } from 'bullmq';
import { sql } from 'kysely';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { type Batch, encodeBatch, jobKey } from '#job';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { freePort, scratchFolder, startNode, type TestProcess, untilReady } from '#kit/process.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { storedTallies } from '#kit/tables.ts';
import { until } from '#kit/until.ts';
import { batch, POLL, vote } from '#kit/votes.ts';

const MAIN = join(ROOT, 'workers/main.ts');
const POLLS_FILE = join(ROOT, 'stack/polls.json');

let folder: string;
let node: TestRedis;
const cleanups: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  const scratch = await scratchFolder();
  folder = scratch.path;
  node = await startRedis();
  cleanups.push(scratch.remove, () => node.remove());
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

interface Worker extends TestProcess {
  readonly adminPort: number;
  /** Returns the logged lines with this message, parsed. */
  lines(message: string): Promise<Record<string, unknown>[]>;
}

async function startWorker(database: TestDatabase): Promise<Worker> {
  const adminPort = await freePort();
  const env = {
    ADMIN_PORT: String(adminPort),
    DATABASE_URL: database.url,
    POLLS_FILE,
    QUEUE_NODES: node.socket,
  };
  const worker = startNode(MAIN, env, join(folder, `worker-${adminPort}.log`));
  cleanups.push(() => worker.end('SIGKILL'));
  const lines = async (message: string) => {
    const all = (await worker.output()).split('\n').filter(Boolean);
    return all.map((line) => JSON.parse(line)).filter((line) => line.message === message);
  };
  return { ...worker, adminPort, lines };
}

async function openDatabase(template?: string): Promise<TestDatabase> {
  const database = await createDatabase(template);
  cleanups.push(() => database.remove());
  return database;
}

async function enqueue(batch: Batch): Promise<void> {
  const queue = new Queue('votes', { connection: node.client });
  await queue.add('batch', encodeBatch(batch), { jobId: jobKey(batch.source, batch.seq) });
  await queue.close();
}

const untilCounted = (database: TestDatabase, votes: number) =>
  until(`${votes} votes are counted`, async () => {
    expect(await storedTallies(database.db)).toEqual(new Map([[`${POLL} cats`, votes]]));
    return true;
  });

/** Returns the status of a path on the admin port, and the reasons why the worker is not ready. */
async function ask({ adminPort }: Worker, path: '/startupz' | '/readyz') {
  const response = await fetch(`http://127.0.0.1:${adminPort}${path}`);
  const { reason = {} } = (await response.json()) as { reason?: Record<string, string> };
  return { status: response.status, reason };
}

test('drains into a schema that a newer release has migrated', async () => {
  const database = await openDatabase();
  await sql`insert into kysely_migration values ('9999_newer', '2030-01-01T00:00:00.000Z')`.execute(
    database.db,
  );
  await enqueue(batch(1, [vote(1, 'cats', 0)]));
  const worker = await startWorker(database);
  await untilReady(worker, worker.adminPort);
  await untilCounted(database, 1);
  expect((await ask(worker, '/startupz')).status).toBe(200);
  expect(await worker.lines('schema is newer')).toEqual([
    expect.objectContaining({ level: 'warn', migrations: ['9999_newer'] }),
  ]);
  expect(await worker.lines('database not ready, retrying')).toEqual([]);
});

test('is not started while a migration fails, and drains once it succeeds', async () => {
  const database = await openDatabase('template1');
  await sql`create table votes (x int)`.execute(database.db);
  await enqueue(batch(1, [vote(1, 'cats', 0)]));
  const worker = await startWorker(database);
  const message = 'migration 0001_initial failed: relation "votes" already exists';
  await until('it names the migration', async () => {
    const { status, reason } = await ask(worker, '/startupz');
    return status === 503 && reason['postgres'] === message;
  });
  expect((await ask(worker, '/readyz')).status).toBe(503);
  expect(await worker.lines('database not ready, retrying')).toEqual([
    expect.objectContaining({ level: 'warn', error: expect.objectContaining({ message }) }),
  ]);
  await sql`drop table votes`.execute(database.db);
  await untilReady(worker, worker.adminPort);
  await untilCounted(database, 1);
});
