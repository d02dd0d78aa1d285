import { join } from 'node:path';
import { Queue } from 'bullmq';
import { sql } from 'kysely';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { auditSources, auditTallies } from '#db/audit.ts';
import { commitBatches } from '#db/commit.ts';
import { readReceipt, readResults } from '#db/results.ts';
import { type Batch, jobKey } from '#job';
import { type Drain, startDrain } from '#kit/drain.ts';
import { recordLog } from '#kit/log.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { scratchFolder } from '#kit/process.ts';
import { startProxy } from '#kit/proxy.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { storedBatches, storedTallies } from '#kit/tables.ts';
import { until } from '#kit/until.ts';
import { batch, POLL, vote } from '#kit/votes.ts';
import type { CommitterOptions } from '#workers/committer.ts';

let database: TestDatabase;
let nodes: TestRedis[];
const cleanups: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  database = await createDatabase();
  nodes = await Promise.all([startRedis(), startRedis()]);
  cleanups.push(() => database.remove(), ...nodes.map((node) => () => node.remove()));
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

/** Puts jobs into a node's queue, as a handler does. */
async function enqueue(node: TestRedis, batches: readonly Batch[], raw?: string): Promise<void> {
  const queue = new Queue('votes', { connection: node.client });
  for (const data of batches) await queue.add('batch', data, { jobId: jobKey(data.source, data.seq) });
  if (raw !== undefined) {
    const job = await queue.add('batch', {}, { jobId: 'unreadable' });
    await node.client.hset(`bull:votes:${job.id}`, 'data', raw);
  }
  await queue.close();
}

async function drainAll(commit?: CommitterOptions['commit']): Promise<Drain> {
  const drain = await startDrain({ db: database.db, sockets: nodes.map(({ socket }) => socket), commit });
  cleanups.push(drain.stop);
  return drain;
}

const keysOf = async (node: TestRedis) =>
  (await node.client.keys('bull:votes:*')).filter((key) => /\.\d+$/.test(key)).length;
const talliesAre = (expected: [string, number][]) =>
  until('the tallies are right', async () => {
    expect(await storedTallies(database.db)).toEqual(new Map(expected));
    return true;
  });

describe('the drain', () => {
  test('counts the jobs of all nodes and takes them out of the queues', async () => {
    const [one, two] = nodes as [TestRedis, TestRedis];
    await enqueue(one, [batch(1, [vote(1, 'cats', 0)]), batch(2, [vote(2, 'dogs', 0)])], undefined);
    await enqueue(two, [batch(1, [vote(3, 'cats', 0)], 'other.t0-2')]);
    await drainAll();
    await talliesAre([
      [`${POLL} cats`, 2],
      [`${POLL} dogs`, 1],
    ]);
    await until('the queues are empty', async () => (await keysOf(one)) + (await keysOf(two)) === 0);
  });

  test('keeps going with the other nodes when one is down, and takes up its jobs when it is back', async () => {
    const [one, two] = nodes as [TestRedis, TestRedis];
    await enqueue(one, [batch(1, [vote(1, 'cats', 0)])]);
    await one.down('SIGKILL');
    const { fleet } = await drainAll();
    await enqueue(two, [batch(1, [vote(2, 'cats', 0)], 'other.t0-2')]);
    await talliesAre([[`${POLL} cats`, 1]]);
    await until('the node is seen to be down', () => fleet.nodes.get(one.socket)?.isUp === false);
    await one.up();
    await talliesAre([[`${POLL} cats`, 2]]);
  });

  test('starts with a node that comes later and leaves one that has gone', async () => {
    const [one, two] = nodes as [TestRedis, TestRedis];
    const drain = await drainAll();
    drain.follow([two.socket]);
    await until('the first node is left', () => !drain.fleet.nodes.has(one.socket));
    await enqueue(one, [batch(1, [vote(1, 'cats', 0)])]);
    await enqueue(two, [batch(1, [vote(2, 'dogs', 0)], 'other.t0-2')]);
    await talliesAre([[`${POLL} dogs`, 1]]);
    drain.follow([one.socket, two.socket]);
    await talliesAre([
      [`${POLL} cats`, 1],
      [`${POLL} dogs`, 1],
    ]);
  });

  test('fails a job that nobody can read, keeps it with the reason, and counts the others', async () => {
    const [one] = nodes as [TestRedis, TestRedis];
    await enqueue(one, [batch(1, [vote(1, 'cats', 0)])], '{"source":');
    await enqueue(one, [{ source: 'node.t0-1', seq: 7, votes: [] }, batch(8, [vote(2, 'cats', 0)])]);
    await drainAll();
    await talliesAre([[`${POLL} cats`, 2]]);
    await until('both failed', async () => (await one.client.zcard('bull:votes:failed')) === 2);
    expect(await one.client.hget('bull:votes:unreadable', 'failedReason')).toBe('the data is not an object');
    expect(await one.client.hget('bull:votes:unreadable', 'data')).toBe('{"source":');
    expect(await one.client.hget('bull:votes:node.t0-1.7', 'failedReason')).toBe('no votes');
  });

  test('counts a job once whose worker died between its commit and its acknowledgement', async () => {
    const [one] = nodes as [TestRedis, TestRedis];
    const job = batch(1, [vote(1, 'cats', 0)]);
    await commitBatches(database.db, [job], 1);
    await enqueue(one, [job]);
    await drainAll();
    await until('the job is done', async () => (await keysOf(one)) === 0);
    await talliesAre([[`${POLL} cats`, 1]]);
    expect(await storedBatches(database.db)).toHaveLength(1);
  });

  test('waits for a database that is away, without using up jobs, and says so', async () => {
    const [one] = nodes as [TestRedis, TestRedis];
    let isAway = true;
    const { faults } = await drainAll(async (batches, shard) => {
      if (isAway) throw Object.assign(new Error('the database system is shutting down'), { code: '57P01' });
      return commitBatches(database.db, batches, shard);
    });
    await enqueue(one, [batch(1, [vote(1, 'cats', 0)]), batch(2, [vote(2, 'cats', 0)])]);
    await until('the fault is reported', () => faults.includes('the database system is shutting down'));
    expect(await one.client.zcard('bull:votes:failed')).toBe(0);
    isAway = false;
    await talliesAre([[`${POLL} cats`, 2]]);
    await until('the end of the fault is reported', () => faults.at(-1) === undefined);
    expect(await one.client.zcard('bull:votes:failed')).toBe(0);
  });

  test('commits the good jobs beside one that Postgres can never take', async () => {
    const [one] = nodes as [TestRedis, TestRedis];
    const { log } = recordLog();
    log.setLevel('error');
    await drainAll(async (batches, shard) => {
      if (batches.some(({ seq }) => seq === 3)) throw Object.assign(new Error('bad data'), { code: '22P02' });
      return commitBatches(database.db, batches, shard);
    });
    await enqueue(
      one,
      [1, 2, 3, 4, 5].map((seq) => batch(seq, [vote(seq, 'cats', 0)])),
    );
    await talliesAre([[`${POLL} cats`, 4]]);
    await until('the bad one failed', async () => (await one.client.zcard('bull:votes:failed')) === 1);
    expect(await one.client.hget('bull:votes:node.t0-1.3', 'failedReason')).toBe('bad data');
  });

  test('takes up its work again after all its connections to Postgres were cut', async () => {
    const [one] = nodes as [TestRedis, TestRedis];
    await drainAll();
    await enqueue(one, [batch(1, [vote(1, 'cats', 0)])]);
    await talliesAre([[`${POLL} cats`, 1]]);
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    await client.query(
      'select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()',
    );
    await client.end();
    await enqueue(one, [batch(2, [vote(2, 'cats', 0)])]);
    await talliesAre([[`${POLL} cats`, 2]]);
  });
});

test('a node that vanished without a word is asked over a new connection', async () => {
  const [node] = nodes as [TestRedis];
  const folder = await scratchFolder();
  const path = join(folder.path, 'p.sock');
  const proxy = await startProxy({ path }, { path: node.socket });
  cleanups.push(folder.remove, proxy.close);
  const drain = await startDrain({ db: database.db, sockets: [path] });
  cleanups.push(drain.stop);
  const isUp = () => drain.fleet.nodes.get(path)?.isUp;
  await until('it answers', () => isUp() === true);
  proxy.silence();
  await until('it is missed', () => isUp() === false);
  await until('it is back', () => isUp() === true);
});

describe('the ledger', () => {
  test('is mirrored, outlives its node, and never goes back', async () => {
    const [one, two] = nodes as [TestRedis, TestRedis];
    await one.client.hset('turnout:ledger', 'node.t0-1', '3:30', 'nonsense', '1:1', 'x.t0-1', 'nonsense');
    await two.client.hset('turnout:ledger', 'other.t0-2', '1:10');
    await drainAll();
    const accepted = async () => (await readResults(database.db)).ledger.accepted;
    await until('both are mirrored', async () => (await accepted()) === 40);
    await one.client.hset('turnout:ledger', 'node.t0-1', '2:20');
    await two.client.hset('turnout:ledger', 'other.t0-2', '2:15');
    await until('the change is mirrored', async () => (await accepted()) === 45);
    await one.down('SIGKILL');
    expect(await accepted()).toBe(45);
  });

  test('tells which jobs are missing, what is pending, and when all is settled', async () => {
    const [one] = nodes as [TestRedis, TestRedis];
    await one.client.hset('turnout:ledger', 'node.t0-1', '3:3');
    await drainAll();
    await enqueue(
      one,
      [1, 3].map((seq) => batch(seq, [vote(seq, 'cats', 0)])),
    );
    await talliesAre([[`${POLL} cats`, 2]]);
    await until('the ledger is mirrored', async () => (await readResults(database.db)).ledger.accepted === 3);
    expect(await auditSources(database.db)).toMatchObject([
      {
        source: 'node.t0-1',
        node: 'node',
        acceptedSeq: 3,
        jobs: 2,
        counted: 2,
        missingJobs: 1,
        missing: [2],
      },
    ]);
    expect((await readResults(database.db)).settled).toBe(false);
    expect(
      await Promise.all(
        ['node.t0-1.1', 'node.t0-1.2', 'node.t0-1.4', 'x'].map((r) => readReceipt(database.db, r)),
      ),
    ).toEqual(['counted', 'pending', 'unknown', 'unknown']);

    await enqueue(one, [batch(2, [vote(2, 'cats', 0)])]);
    await talliesAre([[`${POLL} cats`, 3]]);
    expect(await readResults(database.db)).toMatchObject({
      settled: true,
      ledger: { accepted: 3, committed: 3 },
    });
    expect(await auditTallies(database.db)).toEqual([]);
  });
});

test('results list the polls in the order of the file, with every choice', async () => {
  await commitBatches(database.db, [batch(1, [vote(1, 'dogs', 0)])], 1);
  const { polls } = await readResults(database.db);
  expect(polls.map(({ poll }) => poll)).toEqual(['cats-vs-dogs', 'best-snack']);
  expect(polls[0]).toEqual({
    poll: 'cats-vs-dogs',
    question: 'Cats or dogs?',
    closesAt: null,
    choices: [
      { id: 'cats', label: 'Cats', votes: 0 },
      { id: 'dogs', label: 'Dogs', votes: 1 },
    ],
  });
});

test('the audit finds a tally that somebody changed', async () => {
  await commitBatches(database.db, [batch(1, [vote(1, 'dogs', 0)])], 1);
  await database.db.updateTable('tallies').set({ votes: 2 }).execute();
  expect(await auditTallies(database.db)).toEqual([{ poll: POLL, choice: 'dogs', tally: 2, recount: 1 }]);
});

test('a connection that breaks while it is held does not end the process', async () => {
  const { db } = database;
  await db.connection().execute(async (held) => {
    const { rows } = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(held);
    const pid = rows[0]?.pid;
    await sql`select pg_terminate_backend(${pid})`.execute(db);
    await until('the connection is gone', async () => {
      const { rows } = await sql`select from pg_stat_activity where pid = ${pid}`.execute(db);
      return rows.length === 0;
    });
    await expect(sql`select 1`.execute(held)).rejects.toThrow();
  });
  expect((await sql`select 1`.execute(db)).rows).toHaveLength(1);
});
