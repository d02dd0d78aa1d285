import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NodeQueues } from '#audit/queues.ts';
import { sumOutcomes } from '#audit/reconcile.ts';
import { auditSources } from '#db/audit.ts';
import { commitBatches } from '#db/commit.ts';
import { recordFences } from '#db/fences.ts';
import { readAwaited } from '#db/final.ts';
import { readNodes, writeOffNode } from '#db/nodes.ts';
import { LiveAudit } from '#handlers/dashboard/live-audit.ts';
import { recordLog } from '#kit/log.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { mirrorEntry } from '#kit/tables.ts';
import { until } from '#kit/until.ts';
import type { RedisAddress } from '#runtime/redis.ts';
import { addressOf, capture, fail, job, take } from './nodes.ts';

const ONE = 'frontend01-aaaaaaaaaaaaa.t0-1';
const TWO = 'frontend02-bbbbbbbbbbbbb.t0-1';

let database: TestDatabase;
let first: TestRedis;
let second: TestRedis;
let addresses: RedisAddress[];
let queues: NodeQueues;
const cleanups: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  database = await createDatabase();
  [first, second] = await Promise.all([startRedis(), startRedis()]);
  cleanups.push(
    () => database.remove(),
    () => first.remove(),
    () => second.remove(),
  );
  addresses = [addressOf(first), addressOf(second)];
  queues = new NodeQueues({ discover: async () => addresses, log: recordLog().log });
  cleanups.push(() => queues.close());
  await queues.follow();
  await until('both answer', () => queues.all.every(({ fault }) => fault === undefined));
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

/** Returns a fresh report; `before` is the state of the live audit until then. */
async function report(ledger = newLedger()) {
  const report = await ledger.latest();
  expect(report.postgresFault).toBe(undefined);
  const { accepted, counted, pending, failed, lost } = sumOutcomes(report.rows);
  return { ...report, outcomes: { accepted, counted, pending, failed, lost } };
}

function newLedger(): LiveAudit {
  const { db } = database;
  return new LiveAudit({
    queues,
    readDatabase: async () => ({
      audits: await auditSources(db),
      enrolled: await readNodes(db),
      awaited: await readAwaited(db),
      polls: [],
    }),
    log: recordLog().log,
  });
}

async function count(node: TestRedis, source: string, seq: number): Promise<void> {
  await commitBatches(database.db, [job(source, seq)], 0);
  await take(node, source, seq);
}

describe('the live audit', () => {
  test('follows votes from the queues of all nodes into Postgres', async () => {
    await capture(first, ONE, 3);
    await capture(second, TWO, 2);
    expect((await report()).outcomes).toEqual({ accepted: 9, counted: 0, pending: 9, failed: 0, lost: 0 });
    await count(first, ONE, 2);
    expect((await report()).outcomes).toEqual({ accepted: 9, counted: 2, pending: 7, failed: 0, lost: 0 });
    for (const seq of [1, 3]) await count(first, ONE, seq);
    for (const seq of [1, 2]) await count(second, TWO, seq);
    const { outcomes, nodes } = await report();
    expect(outcomes).toEqual({ accepted: 9, counted: 9, pending: 0, failed: 0, lost: 0 });
    expect(nodes).toMatchObject([
      { fault: undefined, appendOnlyFile: 'on', memory: { max: 2 ** 30 } },
      { fault: undefined, appendOnlyFile: 'on' },
    ]);
  });

  test('distinguishes failed jobs from waiting ones', async () => {
    await capture(first, ONE, 3);
    await fail(first, ONE, 2);
    const { rows } = await report();
    expect(rows[0]?.jobs).toMatchObject({ accepted: 3, committed: 0, pending: 2, failed: 1, lost: 0 });
    for (const seq of [1, 3]) await count(first, ONE, seq);
    expect((await report()).outcomes).toEqual({ accepted: 6, counted: 4, pending: 0, failed: 2, lost: 0 });
  });

  test('reports a job that disappeared', async () => {
    await capture(first, ONE, 3);
    await take(first, ONE, 2);
    const { rows } = await report();
    expect(rows[0]?.jobs).toMatchObject({ accepted: 3, committed: 0, pending: 2, failed: 0, lost: 1 });
    for (const seq of [1, 3]) await count(first, ONE, seq);
    expect((await report()).outcomes).toEqual({ accepted: 6, counted: 4, pending: 0, failed: 0, lost: 2 });
  });

  test('reports the losses of a node whose ledger was erased', async () => {
    await capture(first, ONE, 3);
    await count(first, ONE, 1);
    await mirrorEntry(database.db, ONE, { seq: 3, votes: 6 });
    const ledger = newLedger();
    await report(ledger);
    for (const seq of [2, 3]) await take(first, ONE, seq);
    await first.client.del('turnout:ledger');
    ledger.expire();
    expect((await report(ledger)).outcomes).toMatchObject({ accepted: 6, counted: 1, pending: 0, lost: 5 });
  });

  test('awaits the node of a Redis that came back empty, even under its old host name', async () => {
    await capture(first, ONE, 3);
    await mirrorEntry(database.db, ONE, { seq: 3, votes: 6 });
    await first.client.flushall();
    await capture(first, 'frontend01-ccccccccccccc.t0-2', 1);
    const { outcomes, rows } = await report();
    expect(outcomes).toMatchObject({ accepted: 7, counted: 0, pending: 7, lost: 0 });
    expect(rows.map(({ node, reachable }) => [node, reachable])).toEqual([
      ['aaaaaaaaaaaaa', false],
      ['ccccccccccccc', true],
    ]);
  });

  test('reports votes that the receipts lack, although no job is missing', async () => {
    await capture(first, ONE, 2);
    await count(first, ONE, 1);
    // As a handler that was taken over: another job under the next number of the source.
    await commitBatches(database.db, [{ ...job(ONE, 1), seq: 2 }], 0);
    await take(first, ONE, 2);
    const { outcomes, rows } = await report();
    expect(outcomes).toMatchObject({ accepted: 3, pending: 0, lost: 1 });
    expect(rows).toMatchObject([{ unexplained: 1, jobs: { accepted: 2, committed: 2, lost: 0 } }]);
  });

  test('leaves jobs above a fence out', async () => {
    await capture(first, ONE, 2);
    for (const seq of [1, 2]) await count(first, ONE, seq);
    await mirrorEntry(database.db, ONE, { seq: 2, votes: 3 });
    await recordFences(database.db, new Map([[ONE, { seq: 2, votes: 3 }]]));
    await capture(first, ONE, 5);
    await fail(first, ONE, 5);
    const { outcomes, rows } = await report();
    expect(outcomes).toEqual({ accepted: 3, counted: 3, pending: 0, failed: 0, lost: 0 });
    expect(rows[0]?.jobs).toMatchObject({ accepted: 2, discarded: 3 });
  });

  test('finds entries and jobs of another node, and accounts for neither', async () => {
    await capture(first, ONE, 1);
    await capture(second, TWO, 1);
    await capture(second, ONE, 3);
    await fail(second, ONE, 3);
    const { outcomes, foreign } = await report();
    expect(outcomes).toEqual({ accepted: 2, counted: 0, pending: 2, failed: 0, lost: 0 });
    expect(foreign).toEqual([{ source: ONE, address: second.socket, isInLedger: true, jobs: 3 }]);
  });

  test('shows as written off what is missing from a node that cannot be read', async () => {
    await capture(second, TWO, 2);
    await mirrorEntry(database.db, TWO, { seq: 2, votes: 3 }, Date.now() - 1_000);
    addresses = [addressOf(first)];
    await until('it is gone', () => queues.all.length === 1);
    expect((await report()).outcomes).toMatchObject({ pending: 3 });
    await writeOffNode(database.db, 'frontend02', { who: 'ann', why: 'its disk died' });
    const { rows, enrolled } = await report();
    expect(sumOutcomes(rows)).toMatchObject({ accepted: 3, pending: 0, writtenOff: 3, lost: 0 });
    expect(enrolled).toMatchObject([{ name: 'frontend02', state: 'written off' }]);
  });

  test.each(['SIGKILL', 'SIGSTOP'] as const)(
    'counts jobs of an unreachable node (%s) as pending',
    async (signal) => {
      await capture(first, ONE, 3);
      await capture(second, TWO, 2);
      const ledger = newLedger();
      await report(ledger);
      const { pid } = second.process.child;
      if (signal === 'SIGSTOP') process.kill(pid as number, signal);
      else await second.down(signal);
      const { outcomes, nodes, rows } = await until('it is known to be down', async () => {
        const seen = await report();
        return seen.nodes.some(({ fault }) => fault !== undefined) && seen;
      });
      expect(outcomes).toEqual({ accepted: 9, counted: 0, pending: 9, failed: 0, lost: 0 });
      expect(rows.map(({ reachable }) => reachable)).toEqual([true, false]);
      expect(nodes.find(({ fault }) => fault !== undefined)).toMatchObject({
        name: second.socket,
        id: 'bbbbbbbbbbbbb',
        host: 'frontend02',
        appendOnlyFile: 'unknown',
      });
      if (signal === 'SIGSTOP') process.kill(pid as number, 'SIGCONT');
      else await second.up();
      await until('it is back', async () => (await report()).nodes.every(({ fault }) => fault === undefined));
      expect((await report()).outcomes).toEqual(outcomes);
    },
  );

  test('follows nodes that are added and removed', async () => {
    await capture(second, TWO, 1);
    addresses = [addressOf(first)];
    await until('it is gone', () => queues.all.length === 1);
    expect((await report()).nodes.length).toBe(1);
    addresses = [addressOf(first), addressOf(second)];
    await until('it is back', async () => (await report()).outcomes.pending === 1);
  });
});
