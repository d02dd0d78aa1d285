import { type RawBuilder, sql } from 'kysely';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { auditSources, auditTallies, knownSources } from '#db/audit.ts';
import { commitBatches } from '#db/commit.ts';
import { recordFences } from '#db/fences.ts';
import { foldReceipts } from '#db/fold.ts';
import { applyPollsFile } from '#db/polls.ts';
import { readReceipt, readResults } from '#db/results.ts';
import { jobKey } from '#job';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { emptyTables, mirrorEntry } from '#kit/tables.ts';
import { batch, NODE, OTHER_SOURCE, POLL, SOURCE, vote } from '#kit/votes.ts';

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
});
beforeEach(() => emptyTables(database.db));
afterAll(() => database.remove());

const commit = (source: string, ...seqs: number[]) =>
  commitBatches(
    database.db,
    seqs.map((seq) => batch(seq, [vote(seq, 'cats', seq)], source)),
    0,
  );
const mirror = (source: string, seq: number) => mirrorEntry(database.db, source, { seq, votes: seq });
async function foldAll(): Promise<void> {
  while ((await foldReceipts(database.db)) > 0);
}
const ledger = async () => (await readResults(database.db)).ledger;

describe('the results', () => {
  test('list the polls in the order of the file, with every choice', async () => {
    await commit(SOURCE, 1);
    const { polls } = await readResults(database.db);
    expect(polls.map(({ poll }) => poll)).toEqual(['cats-vs-dogs', 'best-snack']);
    expect(polls[0]).toEqual({
      poll: 'cats-vs-dogs',
      question: 'Cats or dogs?',
      isHidden: false,
      presentation: {},
      finalAt: null,
      writtenOff: [],
      writtenOffJobs: [],
      choices: [
        { id: 'cats', label: 'Cats', votes: 1 },
        { id: 'dogs', label: 'Dogs', votes: 0 },
      ],
    });
  });

  test('of a final poll are those stored with it', async () => {
    await commit(SOURCE, 1);
    const finalAt = new Date('2027-02-07T23:00:00.123Z');
    const choices = [{ id: 'cats', label: 'Kittens', votes: 9 }];
    const writtenOff = [{ id: NODE, name: 'node', reason: 'its disk died' }];
    await database.db
      .updateTable('polls')
      .set({ closed_at: finalAt, final_at: finalAt, result: JSON.stringify({ choices, writtenOff }) })
      .where('id', '=', POLL)
      .execute();
    const [final, other] = (await readResults(database.db)).polls;
    expect(final).toMatchObject({ poll: POLL, finalAt: finalAt.getTime(), choices, writtenOff });
    expect(other).toMatchObject({ finalAt: null, writtenOff: [] });
  });

  test('of an embargoed poll have no counts until it is final', async () => {
    const { db } = database;
    await commit(SOURCE, 1);
    const set = (values: RawBuilder<unknown>) =>
      sql`update polls set ${values} where id = ${POLL}`.execute(db);
    const choicesNow = async () => (await readResults(db)).polls.map(({ choices }) => choices?.[0]?.votes);
    await set(sql`results = 'closed'`);
    expect(await choicesNow()).toEqual([undefined, 0]);
    await set(sql`closed_at = now()`);
    expect(await choicesNow()).toEqual([undefined, 0]);
    const result = JSON.stringify({ choices: [{ id: 'cats', label: 'Cats', votes: 1 }] });
    await set(sql`final_at = now(), result = ${result}`);
    expect(await choicesNow()).toEqual([1, 0]);
  });

  test('count accepted and committed votes of all sources, folded or not', async () => {
    await mirror(SOURCE, 3);
    await mirror(OTHER_SOURCE, 2);
    await commit(SOURCE, 1, 2);
    expect(await ledger()).toEqual({ accepted: 5, committed: 2 });
    await foldAll();
    expect(await ledger()).toEqual({ accepted: 5, committed: 2 });
    // Every committed vote was accepted, also while the mirror lags.
    await commit(SOURCE, 3, 4, 5);
    expect(await ledger()).toEqual({ accepted: 7, committed: 5 });
  });
});

test('a receipt is unknown, then pending, then counted, also when it is folded', async () => {
  const statusOf = (seq: number) => readReceipt(database.db, jobKey(SOURCE, seq));
  expect(await statusOf(1)).toBe('unknown');
  await mirror(SOURCE, 2);
  expect([await statusOf(1), await statusOf(2), await statusOf(3)]).toEqual([
    'pending',
    'pending',
    'unknown',
  ]);
  await commit(SOURCE, 1, 2);
  expect(await statusOf(2)).toBe('counted');
  await foldAll();
  expect([await statusOf(1), await statusOf(2), await statusOf(3)]).toEqual([
    'counted',
    'counted',
    'unknown',
  ]);
  expect(await readReceipt(database.db, 'not a receipt')).toBe('unknown');
});

describe('the audit', () => {
  test('finds a manipulated tally', async () => {
    await commit(SOURCE, 1);
    expect(await auditTallies(database.db)).toEqual([]);
    await database.db.updateTable('tallies').set({ votes: 2 }).execute();
    expect(await auditTallies(database.db)).toEqual([{ poll: POLL, choice: 'cats', tally: 2, recount: 1 }]);
  });

  test('lists the first missing jobs, however high the number in a ledger', async () => {
    await commit(SOURCE, 1, 3);
    await mirror(SOURCE, 999_999_999_999_999);
    expect(await auditSources(database.db, 3)).toMatchObject([{ jobs: 2, missing: [2, 4, 5] }]);
  });

  test('has the same sums before and after receipts are folded', async () => {
    await mirror(SOURCE, 4);
    await commit(SOURCE, 1, 2, 4);
    const before = await auditSources(database.db);
    expect(before).toMatchObject([
      { node: NODE, acceptedSeq: 4, jobs: 3, votes: 3, counted: 3, missingJobs: 1, missing: [3] },
    ]);
    await foldAll();
    expect(await database.db.selectFrom('receipts').select('seq').execute()).toEqual([{ seq: 4 }]);
    expect(await auditSources(database.db)).toEqual(before);
  });

  test('has the difference in votes between ledger and receipts', async () => {
    await mirrorEntry(database.db, SOURCE, { seq: 2, votes: 9 });
    await commit(SOURCE, 1, 2);
    await foldAll();
    expect(await auditSources(database.db)).toMatchObject([{ missingJobs: 0, unexplainedVotes: 7 }]);
  });

  test('has the fixed totals of a fenced source', async () => {
    await mirror(SOURCE, 2);
    await commit(SOURCE, 1);
    await recordFences(database.db, new Map([[SOURCE, { seq: 3, votes: 3 }]]));
    await mirror(SOURCE, 9);
    await commit(SOURCE, 4);
    expect(await auditSources(database.db)).toMatchObject([
      { fencedSeq: 3, acceptedSeq: 3, acceptedVotes: 3, jobs: 1, missing: [2, 3] },
    ]);
  });

  test('lists the sources of the mirror and of commits', async () => {
    await mirror(SOURCE, 1);
    await commit(OTHER_SOURCE, 1);
    expect(await knownSources(database.db)).toEqual(new Set([SOURCE, OTHER_SOURCE]));
  });
});

// Last, because it changes the polls.
test('choices are in the order of the file, followed by removed ones', async () => {
  const apply = (version: number, ...ids: string[]) => {
    const choices = ids.map((id) => ({ id, label: id }));
    return applyPollsFile(database.db, { version, polls: [{ id: 'colours', question: 'Which?', choices }] });
  };
  await apply(2, 'red', 'green', 'blue', 'white');
  await apply(3, 'blue', 'green');
  const { polls } = await readResults(database.db);
  expect(polls.map(({ poll }) => poll)).toEqual(['colours']);
  expect(polls[0]?.choices?.map(({ id }) => id)).toEqual(['blue', 'green', 'red', 'white']);
});
