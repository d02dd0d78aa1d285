import { sql } from 'kysely';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { NODE_KEY } from '#job';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { scratchFolder, untilReady } from '#kit/process.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { storedTallies } from '#kit/tables.ts';
import { until } from '#kit/until.ts';
import { batch, NODE, POLL, SOURCE, vote } from '#kit/votes.ts';
import { enqueue, startWorker, type TestWorker } from '#kit/worker.ts';
import { LEASE_MS } from '#workers/coordinator.ts';

/** Two rounds of the pool and one of the coordinator, on a loaded machine. */
const TAKEOVER_MS_MAX = 7_000;

let folder: string;
let node: TestRedis;
const cleanups: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  const scratch = await scratchFolder();
  folder = scratch.path;
  node = await startRedis();
  await node.client.set(NODE_KEY, NODE);
  cleanups.push(scratch.remove, () => node.remove());
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

async function openDatabase(template?: string): Promise<TestDatabase> {
  const database = await createDatabase(template);
  cleanups.push(() => database.remove());
  return database;
}

async function start(database: TestDatabase): Promise<TestWorker> {
  const worker = await startWorker({ databaseUrl: database.url, nodes: [node], folder });
  cleanups.push(() => worker.end('SIGKILL'));
  return worker;
}

const untilCounted = (database: TestDatabase, votes: number) =>
  until(`${votes} votes are counted`, async () => {
    expect(await storedTallies(database.db)).toEqual(new Map([[`${POLL} cats`, votes]]));
    return true;
  });

test('drains into a schema that a newer release has migrated', async () => {
  const database = await openDatabase();
  await sql`insert into kysely_migration values ('9999_newer', '2030-01-01T00:00:00.000Z')`.execute(
    database.db,
  );
  await enqueue(node, batch(1, [vote(1, 'cats', 0)]));
  const worker = await start(database);
  await untilReady(worker, worker.adminPort);
  await untilCounted(database, 1);
  expect((await worker.ask('/startupz')).status).toBe(200);
  expect(await worker.lines('schema is newer')).toEqual([
    expect.objectContaining({ level: 'warn', migrations: ['9999_newer'] }),
  ]);
  expect(await worker.lines('database not ready, retrying')).toEqual([]);
});

test('is not started while a migration fails, and drains once it succeeds', async () => {
  const database = await openDatabase('template1');
  await sql`create table votes (x int)`.execute(database.db);
  await enqueue(node, batch(1, [vote(1, 'cats', 0)]));
  const worker = await start(database);
  const message = 'migration 0001_initial failed: relation "votes" already exists';
  await until('it names the migration', async () => {
    const { status, reason } = await worker.ask('/startupz');
    return status === 503 && reason['postgres'] === message;
  });
  expect((await worker.ask('/readyz')).status).toBe(503);
  expect(await worker.lines('database not ready, retrying')).toEqual([
    expect.objectContaining({ level: 'warn', error: expect.objectContaining({ message }) }),
  ]);
  await sql`drop table votes`.execute(database.db);
  await untilReady(worker, worker.adminPort);
  await untilCounted(database, 1);
});

test('another worker coordinates when the one that holds its lease is killed', async () => {
  const database = await openDatabase();
  const workers = await Promise.all([start(database), start(database)]);
  await Promise.all(workers.map((worker) => untilReady(worker, worker.adminPort)));
  const mirrored = async (seq: number) => {
    await node.client.hset('turnout:ledger', SOURCE, `${seq}:${seq}`);
    const msMax = LEASE_MS + TAKEOVER_MS_MAX;
    await until(`number ${seq} is mirrored`, async () => (await acceptedSeq(database)) === seq, msMax);
  };
  const holders = async () => {
    const acquired = await Promise.all(workers.map((worker) => worker.lines('lease acquired')));
    return workers.filter((_, index) => acquired[index]?.length === 1);
  };
  await mirrored(1);
  await mirrored(2);
  const [holder, ...others] = await holders();
  expect(others).toEqual([]);
  await holder?.end('SIGKILL');
  await mirrored(3);
  expect(await holders()).toHaveLength(2);
});

async function acceptedSeq({ db }: TestDatabase): Promise<number | undefined> {
  const row = await db.selectFrom('sources').select('accepted_seq').executeTakeFirst();
  return row?.accepted_seq;
}
