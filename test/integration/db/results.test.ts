import { sql } from 'kysely';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { auditSources, auditTallies } from '#db/audit.ts';
import { commitBatches } from '#db/commit.ts';
import { retireNode } from '#db/nodes.ts';
import { upsertPolls } from '#db/polls.ts';
import { readResults } from '#db/results.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { emptyTables, mirrorEntry } from '#kit/tables.ts';
import { batch, POLL, vote } from '#kit/votes.ts';

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
const mirror = (source: string, seq: number) => mirrorEntry(database.db, source, { seq, votes: seq });
const observe = (source: string, at: number) =>
  sql`update ledgers set observed_at = ${new Date(at)} where source = ${source}`.execute(database.db);

describe('results are settled', () => {
  test('once all jobs up to the last number of the ledger are committed', async () => {
    await mirror(SOURCE, 3);
    await commit(SOURCE, 1, 2);
    expect((await readResults(database.db)).settled).toBe(false);
    await commit(SOURCE, 3);
    expect((await readResults(database.db)).settled).toBe(true);
  });

  test('only without missing jobs, even if later ones are committed', async () => {
    await mirror(SOURCE, 3);
    await commit(SOURCE, 1, 2, 4);
    expect((await readResults(database.db)).settled).toBe(false);
    await commit(SOURCE, 3);
    expect((await readResults(database.db)).settled).toBe(true);
  });
});

test('results list the polls in the order of the file, with every choice', async () => {
  await commit(SOURCE, 1);
  const { polls } = await readResults(database.db);
  expect(polls.map(({ poll }) => poll)).toEqual(['cats-vs-dogs', 'best-snack']);
  expect(polls[0]).toEqual({
    poll: 'cats-vs-dogs',
    question: 'Cats or dogs?',
    closesAt: null,
    choices: [
      { id: 'cats', label: 'Cats', votes: 1 },
      { id: 'dogs', label: 'Dogs', votes: 0 },
    ],
  });
});

test('choices are in the order of the file, followed by removed ones', async () => {
  const upsert = (...ids: string[]) => {
    const choices = ids.map((id) => ({ id, label: id }));
    return upsertPolls(database.db, [{ id: 'colours', question: 'Which?', choices }]);
  };
  await upsert('red', 'green', 'blue', 'white');
  await upsert('blue', 'green');
  const poll = (await readResults(database.db)).polls.find((one) => one.poll === 'colours');
  expect(poll?.choices.map(({ id }) => id)).toEqual(['blue', 'green', 'red', 'white']);
});

test('the audit finds a manipulated tally', async () => {
  await commit(SOURCE, 1);
  await database.db.updateTable('tallies').set({ votes: 2 }).execute();
  expect(await auditTallies(database.db)).toEqual([{ poll: POLL, choice: 'cats', tally: 2, recount: 1 }]);
});

test('the audit lists the first missing jobs, however high the number in a ledger', async () => {
  await commit(SOURCE, 1, 3);
  await mirror(SOURCE, 999_999_999_999_999);
  expect(await auditSources(database.db, 3)).toMatchObject([{ jobs: 2, missing: [2, 4, 5] }]);
});

describe('the results are observed', () => {
  const observedAt = async () => (await readResults(database.db)).observedAt;

  test("at the oldest of the nodes' last reads, from any of their sources", async () => {
    for (const source of [SOURCE, LATER, 'other.t0-1']) await mirror(source, 1);
    await observe(SOURCE, 1_000);
    await observe(LATER, 5_000);
    await observe('other.t0-1', 9_000);
    expect(await observedAt()).toBe(5_000);
  });

  test('never without a node, or with one whose ledger has not been read', async () => {
    expect(await observedAt()).toBe(null);
    await mirror(LATER, 1);
    await commit('other.t0-1', 1);
    expect(await observedAt()).toBe(null);
  });

  test('even if a source of a node has receipts only', async () => {
    await commit(SOURCE, 1);
    await mirror(LATER, 1);
    await observe(LATER, 5_000);
    expect(await observedAt()).toBe(5_000);
  });
});

describe('a retired node', () => {
  const observedAt = async () => (await readResults(database.db)).observedAt;
  const NODE = 'frontend.01';
  beforeEach(async () => {
    for (const source of [SOURCE, LATER, 'other.t0-1']) await mirror(source, 1);
    await observe(SOURCE, 1_000);
    await observe(LATER, 5_000);
    await observe('other.t0-1', 9_000);
  });

  test('is refused while a job is missing, even if later ones are committed', async () => {
    await commit(SOURCE, 1);
    expect(await retireNode(database.db, NODE)).toEqual({ status: 'incomplete', jobs: 1 });
    await commit(LATER, 2);
    expect(await retireNode(database.db, NODE)).toEqual({ status: 'incomplete', jobs: 1 });
    expect(await observedAt()).toBe(5_000);
    await commit(LATER, 1);
    expect(await retireNode(database.db, NODE)).toEqual({ status: 'retired' });
  });

  test('is left out of the results until its ledger is read again', async () => {
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

  test('leaves the results observed now when it is the last one', async () => {
    for (const source of [SOURCE, LATER, 'other.t0-1']) await commit(source, 1);
    await retireNode(database.db, NODE);
    await retireNode(database.db, 'other');
    const before = Date.now();
    expect(await observedAt()).toBeGreaterThan(before - 60_000);
  });

  test('must exist', async () => {
    expect(await retireNode(database.db, 'no-such-node')).toEqual({ status: 'unknown' });
    expect(await retireNode(database.db, "x'; drop table votes; --")).toEqual({ status: 'unknown' });
    expect(await database.db.selectFrom('retired_nodes').selectAll().execute()).toEqual([]);
  });

  test('is marked in the audit until its ledger is read again', async () => {
    for (const source of [SOURCE, LATER]) await commit(source, 1);
    await retireNode(database.db, NODE);
    const retired = async () =>
      (await auditSources(database.db)).filter(({ retired }) => retired).map(({ source }) => source);
    expect(await retired()).toEqual([SOURCE, LATER]);
    await observe(LATER, Date.now() + 60_000);
    expect(await retired()).toEqual([SOURCE]);
  });
});

test('the mirror keeps the time of the latest read, never after the clock of Postgres', async () => {
  const { db } = database;
  const readAt = Date.now() - 60_000;
  const mirror = (at: number) => mirrorEntry(db, 'frontend01.t0-9', { seq: 1, votes: 1 }, at);
  const observed = async () =>
    (
      await db
        .selectFrom('ledgers')
        .select('observed_at')
        .where('source', '=', 'frontend01.t0-9')
        .executeTakeFirst()
    )?.observed_at;
  await mirror(readAt);
  expect(await observed()).toEqual(new Date(readAt));
  await mirror(readAt - 1_000);
  expect(await observed()).toEqual(new Date(readAt));
  await mirror(Date.now() + 3_600_000);
  expect((await observed())?.getTime()).toBeLessThan(Date.now() + 60_000);
});
