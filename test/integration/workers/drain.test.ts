import { join } from 'node:path';
import { Queue } from 'bullmq';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { auditSources, auditTallies } from '#db/audit.ts';
import { commitBatches } from '#db/commit.ts';
import { readReceipt, readResults } from '#db/results.ts';
import { writeOffJobs } from '#db/write-off.ts';
import { type Batch, encodeBatch, FENCED_KEY, JOB_VERSION, jobKey, NODE_KEY, sourceName } from '#job';
import { type Drain, startDrain } from '#kit/drain.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { scratchFolder } from '#kit/process.ts';
import { startProxy } from '#kit/proxy.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { mirrorEntry, storedReceipts, storedTallies } from '#kit/tables.ts';
import { until } from '#kit/until.ts';
import { batch, NODE, OTHER_NODE, OTHER_SOURCE, POLL, SOURCE, vote } from '#kit/votes.ts';
import type { CommitterOptions } from '#workers/committer.ts';
import { NodeRegistry } from '#workers/node-registry.ts';

let database: TestDatabase;
let nodes: TestRedis[];
const cleanups: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  database = await createDatabase();
  nodes = await Promise.all([startRedis(), startRedis()]);
  const [one, two] = nodes as [TestRedis, TestRedis];
  await one.client.set(NODE_KEY, NODE);
  await two.client.set(NODE_KEY, OTHER_NODE);
  cleanups.push(() => database.remove(), ...nodes.map((node) => () => node.remove()));
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

/** Adds jobs to a node's queue as a handler does, and one with `raw` as its data. */
async function enqueue(node: TestRedis, batches: readonly Batch[], raw?: string): Promise<void> {
  const queue = new Queue('votes', { connection: node.client });
  for (const batch of batches) {
    await queue.add('batch', encodeBatch(batch), { jobId: jobKey(batch.source, batch.seq) });
  }
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

const countJobs = async (node: TestRedis) =>
  (await node.client.keys('bull:votes:*')).filter((key) => /\.\d+$/.test(key)).length;
const untilTalliesAre = (expected: [string, number][]) =>
  until('the tallies match', async () => {
    expect(await storedTallies(database.db)).toEqual(new Map(expected));
    return true;
  });

describe('the drain', () => {
  test('counts the jobs of all nodes and removes them from the queues', async () => {
    const [one, two] = nodes as [TestRedis, TestRedis];
    await enqueue(one, [batch(1, [vote(1, 'cats', 0)]), batch(2, [vote(2, 'dogs', 0)])]);
    await enqueue(two, [batch(1, [vote(3, 'cats', 0)], OTHER_SOURCE)]);
    await drainAll();
    await untilTalliesAre([
      [`${POLL} cats`, 2],
      [`${POLL} dogs`, 1],
    ]);
    await until('the queues are empty', async () => (await countJobs(one)) + (await countJobs(two)) === 0);
  });

  test('drains the other nodes while one is down, and that one once it is back', async () => {
    const [one, two] = nodes as [TestRedis, TestRedis];
    await enqueue(one, [batch(1, [vote(1, 'cats', 0)])]);
    await one.down('SIGKILL');
    const { pool } = await drainAll();
    await enqueue(two, [batch(1, [vote(2, 'cats', 0)], OTHER_SOURCE)]);
    await untilTalliesAre([[`${POLL} cats`, 1]]);
    await until('the node is unreachable', () => pool.nodes.get(one.socket)?.isUp === false);
    await one.up();
    await untilTalliesAre([[`${POLL} cats`, 2]]);
  });

  test('drains a node that is added later and stops draining one that is removed', async () => {
    const [one, two] = nodes as [TestRedis, TestRedis];
    const drain = await drainAll();
    drain.follow([two.socket]);
    await until('the first node is removed', () => !drain.pool.nodes.has(one.socket));
    await enqueue(one, [batch(1, [vote(1, 'cats', 0)])]);
    await enqueue(two, [batch(1, [vote(2, 'dogs', 0)], OTHER_SOURCE)]);
    await untilTalliesAre([[`${POLL} dogs`, 1]]);
    drain.follow([one.socket, two.socket]);
    await untilTalliesAre([
      [`${POLL} cats`, 1],
      [`${POLL} dogs`, 1],
    ]);
  });

  test('fails an unreadable job with a reason, keeps it, and counts the others', async () => {
    const [one] = nodes as [TestRedis, TestRedis];
    await enqueue(one, [batch(1, [vote(1, 'cats', 0)])], '{"source":');
    await enqueue(one, [{ source: SOURCE, seq: 7, votes: [] }, batch(8, [vote(2, 'cats', 0)])]);
    await drainAll();
    await untilTalliesAre([[`${POLL} cats`, 2]]);
    await until('both have failed', async () => (await one.client.zcard('bull:votes:failed')) === 2);
    expect(await one.client.hget('bull:votes:unreadable', 'failedReason')).toBe('job data is not an object');
    expect(await one.client.hget('bull:votes:unreadable', 'data')).toBe('{"source":');
    expect(await one.client.hget('bull:votes:node-aaaaaaaaaaaaa.t0-1.7', 'failedReason')).toBe(
      'job has no votes',
    );
  });

  test('fails a job that was written off, keeps it, and counts the others', async () => {
    const [one] = nodes as [TestRedis, TestRedis];
    await mirrorEntry(database.db, SOURCE, { seq: 2, votes: 2 });
    await writeOffJobs(database.db, [{ source: SOURCE, seq: 1 }], { who: 'ada', why: 'it is gone' });
    await enqueue(one, [batch(1, [vote(1, 'cats', 0)]), batch(2, [vote(2, 'dogs', 0)])]);
    await drainAll();
    await until('one has failed', async () => (await one.client.zcard('bull:votes:failed')) === 1);
    await untilTalliesAre([[`${POLL} dogs`, 1]]);
    expect(await one.client.hget(`bull:votes:${jobKey(SOURCE, 1)}`, 'failedReason')).toBe(
      'an operator has written the job off: it is gone',
    );
  });

  test.each([
    ['a newer format version', { v: JOB_VERSION + 1, renamed: true }],
    ['no format version', { source: SOURCE, seq: 1, votes: [] }],
  ])('delays a job of %s, counts the others, and counts it once it is readable', async (_, data) => {
    const [one] = nodes as [TestRedis];
    const key = 'bull:votes:node-aaaaaaaaaaaaa.t0-1.1';
    const delayed = batch(1, [vote(1, 'cats', 0)]);
    await enqueue(one, [delayed, batch(2, [vote(2, 'cats', 0)])]);
    await one.client.hset(key, 'data', JSON.stringify(data));
    const { pool, lines } = await drainAll();
    await untilTalliesAre([[`${POLL} cats`, 1]]);
    await until('the pool reports it', () => pool.nodes.get(one.socket)?.report?.delayedJobs === 1);
    await until('it was delayed repeatedly', async () => Number(await one.client.hget(key, 'ats')) >= 3);
    expect(await one.client.hget(key, 'atm')).toBeNull();
    expect(await one.client.zcard('bull:votes:failed')).toBe(0);
    expect(lines.filter(({ message }) => message === 'worker error')).toEqual([]);
    expect(lines.filter(({ message }) => message === 'job delayed')).toEqual([
      expect.objectContaining({
        level: 'warn',
        job: 'node-aaaaaaaaaaaaa.t0-1.1',
        reason: expect.stringContaining('expected 2'),
      }),
    ]);

    // Stands for a worker of that version, which reads the job.
    await one.client.hset(key, 'data', JSON.stringify(encodeBatch(delayed)));
    await untilTalliesAre([[`${POLL} cats`, 2]]);
    await until('the queue is empty', async () => (await countJobs(one)) === 0);
    await until('the pool reports it', () => pool.nodes.get(one.socket)?.report?.delayedJobs === 0);
  });

  test('fails a job of another node and reports it, and counts the jobs of a source that was fenced here', async () => {
    const [one, two] = nodes as [TestRedis, TestRedis];
    await enqueue(one, [batch(1, [vote(1, 'cats', 0)], OTHER_SOURCE), batch(1, [vote(2, 'cats', 0)])]);
    const former = sourceName('host', 'ccccccccccccc', 't0-3');
    await two.client.sadd(FENCED_KEY, former);
    await enqueue(two, [batch(1, [vote(3, 'dogs', 0)], former)]);
    const { foreignJobs } = await drainAll();
    await untilTalliesAre([
      [`${POLL} cats`, 1],
      [`${POLL} dogs`, 1],
    ]);
    await until(
      'the foreign job has failed',
      async () => (await one.client.zcard('bull:votes:failed')) === 1,
    );
    expect(await one.client.hget(`bull:votes:${OTHER_SOURCE}.1`, 'failedReason')).toBe(
      `the source ${OTHER_SOURCE} belongs to another node`,
    );
    expect(foreignJobs()).toBe(1);
    expect((await auditSources(database.db)).find(({ source }) => source === OTHER_SOURCE)).toBeUndefined();
  });

  test('checks the owner of a source again after a new connection, which may lead to another node', async () => {
    const [one] = nodes as [TestRedis, TestRedis];
    const { pool } = await drainAll();
    await enqueue(one, [batch(1, [vote(1, 'cats', 0)])]);
    await untilTalliesAre([[`${POLL} cats`, 1]]);
    await one.client.set(NODE_KEY, 'ccccccccccccc');
    await one.client.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    await until('the node is reachable', () => pool.nodes.get(one.socket)?.isUp === true);
    await enqueue(one, [batch(2, [vote(2, 'cats', 0)])]);
    await until('the job has failed', async () => (await one.client.zcard('bull:votes:failed')) === 1);
    expect(await storedTallies(database.db)).toEqual(new Map([[`${POLL} cats`, 1]]));
  });

  test('delays a job for a moment, and fails none, when its owner cannot be read', async () => {
    const [one] = nodes as [TestRedis, TestRedis];
    const owns = vi.spyOn(NodeRegistry.prototype, 'owns').mockRejectedValueOnce(new Error('connection lost'));
    cleanups.push(async () => owns.mockRestore());
    await enqueue(one, [batch(1, [vote(1, 'cats', 0)])]);
    const { lines } = await drainAll();
    await untilTalliesAre([[`${POLL} cats`, 1]]);
    expect(await one.client.zcard('bull:votes:failed')).toBe(0);
    expect(lines.filter(({ message }) => message === 'job delayed')).toMatchObject([
      { reason: 'connection lost' },
    ]);
  });

  test('counts a job once when its worker died after the commit', async () => {
    const [one] = nodes as [TestRedis, TestRedis];
    const job = batch(1, [vote(1, 'cats', 0)]);
    await commitBatches(database.db, [job], 1);
    await enqueue(one, [job]);
    await drainAll();
    await until('the job is complete', async () => (await countJobs(one)) === 0);
    await untilTalliesAre([[`${POLL} cats`, 1]]);
    expect(await storedReceipts(database.db)).toHaveLength(1);
  });

  test('retries while Postgres is down, fails no job, and reports fault and recovery', async () => {
    const [one] = nodes as [TestRedis, TestRedis];
    let isDown = true;
    const { faults } = await drainAll(async (batches, shard) => {
      if (isDown) throw Object.assign(new Error('the database system is shutting down'), { code: '57P01' });
      return commitBatches(database.db, batches, shard);
    });
    await enqueue(one, [batch(1, [vote(1, 'cats', 0)]), batch(2, [vote(2, 'cats', 0)])]);
    await until('the fault is reported', () => faults.includes('the database system is shutting down'));
    expect(await one.client.zcard('bull:votes:failed')).toBe(0);
    isDown = false;
    await untilTalliesAre([[`${POLL} cats`, 2]]);
    await until('the recovery is reported', () => faults.at(-1) === undefined);
    expect(await one.client.zcard('bull:votes:failed')).toBe(0);
  });

  test('bisects to isolate a job that Postgres rejects, and commits the others', async () => {
    const [one] = nodes as [TestRedis, TestRedis];
    await drainAll(async (batches, shard) => {
      if (batches.some(({ seq }) => seq === 3)) throw Object.assign(new Error('bad data'), { code: '22P02' });
      return commitBatches(database.db, batches, shard);
    });
    await enqueue(
      one,
      [1, 2, 3, 4, 5].map((seq) => batch(seq, [vote(seq, 'cats', 0)])),
    );
    await untilTalliesAre([[`${POLL} cats`, 4]]);
    await until(
      'the rejected job has failed',
      async () => (await one.client.zcard('bull:votes:failed')) === 1,
    );
    expect(await one.client.hget('bull:votes:node-aaaaaaaaaaaaa.t0-1.3', 'failedReason')).toBe('bad data');
  });

  test('recovers after all its connections to Postgres are terminated', async () => {
    const [one] = nodes as [TestRedis, TestRedis];
    await drainAll();
    await enqueue(one, [batch(1, [vote(1, 'cats', 0)])]);
    await untilTalliesAre([[`${POLL} cats`, 1]]);
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    await client.query(
      'select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()',
    );
    await client.end();
    await enqueue(one, [batch(2, [vote(2, 'cats', 0)])]);
    await untilTalliesAre([[`${POLL} cats`, 2]]);
  });
});

test('probes a silent node again over a new connection', async () => {
  const [node] = nodes as [TestRedis];
  const folder = await scratchFolder();
  const path = join(folder.path, 'p.sock');
  const proxy = await startProxy({ path }, { path: node.socket });
  cleanups.push(folder.remove, proxy.close);
  const drain = await startDrain({ db: database.db, sockets: [path] });
  cleanups.push(drain.stop);
  const isUp = () => drain.pool.nodes.get(path)?.isUp;
  await until('the node is reachable', () => isUp() === true);
  proxy.silence();
  await until('the node is unreachable', () => isUp() === false);
  await until('the node is reachable again', () => isUp() === true);
});

describe('the mirror of the ledgers', () => {
  test('follows the ledgers, outlives a node, and never decreases', async () => {
    const [one, two] = nodes as [TestRedis, TestRedis];
    await one.client.hset(
      'turnout:ledger',
      SOURCE,
      '3:30',
      'nonsense',
      '1:1',
      'x-aaaaaaaaaaaaa.t0-1',
      'nonsense',
    );
    await two.client.hset('turnout:ledger', OTHER_SOURCE, '1:10');
    await drainAll();
    const accepted = async () => (await readResults(database.db)).ledger.accepted;
    await until('both are mirrored', async () => (await accepted()) === 40);
    await one.client.hset('turnout:ledger', SOURCE, '2:20');
    await two.client.hset('turnout:ledger', OTHER_SOURCE, '2:15');
    await until('the change is mirrored', async () => (await accepted()) === 45);
    await one.down('SIGKILL');
    expect(await accepted()).toBe(45);
  });

  test('follows the other ledgers while a node does not answer', async () => {
    const [one, two] = nodes as [TestRedis, TestRedis];
    const folder = await scratchFolder();
    const path = join(folder.path, 'p.sock');
    const proxy = await startProxy({ path }, { path: one.socket });
    cleanups.push(folder.remove, proxy.close);
    const drain = await startDrain({ db: database.db, sockets: [path, two.socket], probeMsMax: 60_000 });
    cleanups.push(drain.stop);
    await until('the node is reachable', () => drain.pool.nodes.get(path)?.isUp === true);
    proxy.silence();
    for (const seq of [1, 2, 3]) {
      await two.client.hset('turnout:ledger', OTHER_SOURCE, `${seq}:${seq}`);
      await until(
        'the ledger is mirrored',
        async () => (await readResults(database.db)).ledger.accepted === seq,
      );
    }
  });

  test('shows missing jobs and pending receipts', async () => {
    const [one] = nodes as [TestRedis, TestRedis];
    await one.client.hset('turnout:ledger', SOURCE, '3:3');
    await drainAll();
    await enqueue(
      one,
      [1, 3].map((seq) => batch(seq, [vote(seq, 'cats', 0)])),
    );
    await untilTalliesAre([[`${POLL} cats`, 2]]);
    await until('the ledger is mirrored', async () => (await readResults(database.db)).ledger.accepted === 3);
    expect(await auditSources(database.db)).toMatchObject([
      {
        source: SOURCE,
        node: NODE,
        acceptedSeq: 3,
        jobs: 2,
        counted: 2,
        missingJobs: 1,
        missing: [2],
      },
    ]);
    expect(
      await Promise.all(
        ['node-aaaaaaaaaaaaa.t0-1.1', 'node-aaaaaaaaaaaaa.t0-1.2', 'node-aaaaaaaaaaaaa.t0-1.4', 'x'].map(
          (r) => readReceipt(database.db, r),
        ),
      ),
    ).toEqual(['counted', 'pending', 'unknown', 'unknown']);

    await enqueue(one, [batch(2, [vote(2, 'cats', 0)])]);
    await untilTalliesAre([[`${POLL} cats`, 3]]);
    expect((await readResults(database.db)).ledger).toEqual({ accepted: 3, committed: 3 });
    expect(await auditTallies(database.db)).toEqual([]);
  });
});
