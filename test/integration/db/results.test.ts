import { sql } from 'kysely';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { auditSources } from '#db/audit.ts';
import { commitBatches } from '#db/commit.ts';
import { mirrorLedger } from '#db/ledgers.ts';
import { retireNode } from '#db/nodes.ts';
import { upsertPolls } from '#db/polls.ts';
import { readResults } from '#db/results.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { emptyTables } from '#kit/tables.ts';
import { batch, vote } from '#kit/votes.ts';

const SOURCE = 'frontend.01.t0-1';
const LATER = 'frontend.01.t0-2';

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
});
beforeEach(() => emptyTables(database.db));
afterAll(() => database.remove());

const commit = (source: string, ...seqs: number[]) =>
  commitBatches(
    database.db,
    seqs.map((seq) => batch(seq, [vote(seq, 'cats', 0)], source)),
    0,
  );
const mirror = (source: string, seq: number) =>
  mirrorLedger(database.db, new Map([[source, { seq, votes: seq }]]));
const observe = (source: string, at: number) =>
  sql`update ledgers set observed_at = ${new Date(at)} where source = ${source}`.execute(database.db);

describe('a source is settled', () => {
  test('when all numbers up to the last that its ledger told are committed', async () => {
    await mirror(SOURCE, 3);
    await commit(SOURCE, 1, 2);
    expect((await readResults(database.db)).settled).toBe(false);
    await commit(SOURCE, 3);
    expect((await readResults(database.db)).settled).toBe(true);
  });

  test('not when a number after them makes up for one that is missing', async () => {
    await mirror(SOURCE, 3);
    await commit(SOURCE, 1, 2, 4);
    expect((await readResults(database.db)).settled).toBe(false);
    await commit(SOURCE, 3);
    expect((await readResults(database.db)).settled).toBe(true);
  });
});

test('choices come in the order of the file, and those that it has no more after them', async () => {
  const offer = (...ids: string[]) => {
    const choices = ids.map((id) => ({ id, label: id }));
    return upsertPolls(database.db, [{ id: 'colours', question: 'Which?', choices }]);
  };
  await offer('red', 'green', 'blue', 'white');
  await offer('blue', 'green');
  const poll = (await readResults(database.db)).polls.find((one) => one.poll === 'colours');
  expect(poll?.choices.map(({ id }) => id)).toEqual(['blue', 'green', 'red', 'white']);
});

test('the first missing jobs are named, however high a number a ledger claims', async () => {
  await commit(SOURCE, 1, 3);
  await mirror(SOURCE, 999_999_999_999_999);
  expect(await auditSources(database.db, 3)).toMatchObject([{ jobs: 2, missing: [2, 4, 5] }]);
});

describe('the nodes were observed', () => {
  const observedAt = async () => (await readResults(database.db)).observedAt;

  test('when the last of them was, by whichever of its sources', async () => {
    for (const source of [SOURCE, LATER, 'other.t0-1']) await mirror(source, 1);
    await observe(SOURCE, 1_000);
    await observe(LATER, 5_000);
    await observe('other.t0-1', 9_000);
    expect(await observedAt()).toBe(5_000);
  });

  test('never, when there is none, or one whose ledger was never read', async () => {
    expect(await observedAt()).toBe(null);
    await mirror(LATER, 1);
    await commit('other.t0-1', 1);
    expect(await observedAt()).toBe(null);
  });

  test('also when a source of theirs is known by its receipts only', async () => {
    await commit(SOURCE, 1);
    await mirror(LATER, 1);
    await observe(LATER, 5_000);
    expect(await observedAt()).toBe(5_000);
  });
});

describe('a node that is retired', () => {
  const observedAt = async () => (await readResults(database.db)).observedAt;
  const NODE = 'frontend.01';
  beforeEach(async () => {
    for (const source of [SOURCE, LATER, 'other.t0-1']) await mirror(source, 1);
    await observe(SOURCE, 1_000);
    await observe(LATER, 5_000);
    await observe('other.t0-1', 9_000);
  });

  test('is refused while a job is missing, even if a later number makes up for it', async () => {
    await commit(SOURCE, 1);
    expect(await retireNode(database.db, NODE)).toEqual({ status: 'unsettled', jobs: 1 });
    await commit(LATER, 2);
    expect(await retireNode(database.db, NODE)).toEqual({ status: 'unsettled', jobs: 1 });
    expect(await observedAt()).toBe(5_000);
    await commit(LATER, 1);
    expect(await retireNode(database.db, NODE)).toEqual({ status: 'retired' });
  });

  test('is not waited for any more, until its ledger is read again', async () => {
    await commit(SOURCE, 1);
    await commit(LATER, 1);
    await retireNode(database.db, NODE);
    expect(await observedAt()).toBe(9_000);
    expect(await retireNode(database.db, NODE)).toEqual({ status: 'retired' });

    const back = Date.now() + 60_000;
    await observe(LATER, back);
    await observe('other.t0-1', back + 1_000);
    expect(await observedAt()).toBe(back);
    await mirror(`${NODE}.t0-3`, 1);
    expect((await readResults(database.db)).settled).toBe(false);
  });

  test('leaves nobody to wait for when it was the last', async () => {
    for (const source of [SOURCE, LATER, 'other.t0-1']) await commit(source, 1);
    await retireNode(database.db, NODE);
    await retireNode(database.db, 'other');
    const before = Date.now();
    expect(await observedAt()).toBeGreaterThan(before - 60_000);
  });

  test('has to be known', async () => {
    expect(await retireNode(database.db, 'nobody')).toEqual({ status: 'unknown' });
    expect(await retireNode(database.db, "x'; drop table votes; --")).toEqual({ status: 'unknown' });
    expect(await database.db.selectFrom('retired_nodes').selectAll().execute()).toEqual([]);
  });

  test('is told by the audit, and no longer once its ledger was read again', async () => {
    for (const source of [SOURCE, LATER]) await commit(source, 1);
    await retireNode(database.db, NODE);
    const retired = async () =>
      (await auditSources(database.db)).filter(({ retired }) => retired).map(({ source }) => source);
    expect(await retired()).toEqual([SOURCE, LATER]);
    await observe(LATER, Date.now() + 60_000);
    expect(await retired()).toEqual([SOURCE]);
  });
});

test('a reading that was stored late is as old as it is', async () => {
  const { db } = database;
  const readAt = new Date(Date.now() - 60_000);
  const entry = new Map([['frontend01.t0-9', { seq: 1, votes: 1 }]]);
  const observed = async () =>
    (
      await db
        .selectFrom('ledgers')
        .select('observed_at')
        .where('source', '=', 'frontend01.t0-9')
        .executeTakeFirst()
    )?.observed_at;
  await mirrorLedger(db, entry, readAt);
  expect(await observed()).toEqual(readAt);
  await mirrorLedger(db, entry, new Date(readAt.getTime() - 1_000));
  expect(await observed()).toEqual(readAt);
  await mirrorLedger(db, entry, new Date(Date.now() + 3_600_000));
  expect((await observed())?.getTime()).toBeLessThan(Date.now() + 60_000);
});
