import { sql } from 'kysely';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { auditLateVotes, auditSources } from '#db/audit.ts';
import { type CommitResult, commitBatches } from '#db/commit.ts';
import { readOverdueSources, recordFences } from '#db/fences.ts';
import { finalizePoll, readAwaited, recordClosings, recordSeals } from '#db/final.ts';
import { foldReceipts } from '#db/fold.ts';
import { insertNode, writeOffNode } from '#db/nodes.ts';
import { readReceipt, readResults } from '#db/results.ts';
import { jobKey } from '#job';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { emptyTables, mirrorEntry, recordClosed, storedReceipts } from '#kit/tables.ts';
import { until } from '#kit/until.ts';
import { batch, NODE, OTHER_NODE, OTHER_SOURCE, POLL, SOURCE, vote } from '#kit/votes.ts';

const OPERATOR = { who: 'ada', why: 'its disk burned' };

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.remove());
beforeEach(() => emptyTables(database.db));

const commit = (...batches: ReturnType<typeof batch>[]) => commitBatches(database.db, batches, 1);

async function close(): Promise<void> {
  await database.db.updateTable('polls').set({ closed_at: new Date() }).where('id', '=', POLL).execute();
}

async function foldAll(): Promise<void> {
  while ((await foldReceipts(database.db)) > 0);
}

/** Waits until a statement waits for a lock. */
async function untilBlocked(): Promise<void> {
  await until('a statement waits for a lock', async () => {
    const { rows } = await sql`
      select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
    `.execute(database.db);
    return rows.length > 0;
  });
}

const closing = (nodeId: string, revision = 1) => ({ nodeId, poll: POLL, revision });
const seal = (source: string, seq: number, revision = 1) => ({ source, poll: POLL, revision, seq });
const finalize = () => finalizePoll(database.db, POLL);
const awaited = async () => (await readAwaited(database.db)).get(POLL);
const evidence = async () =>
  (await database.db.selectFrom('polls').select('result').where('id', '=', POLL).executeTakeFirstOrThrow())
    .result;
const result = async () => (await readResults(database.db)).polls.find(({ poll }) => poll === POLL);

/** One node whose source has one job of one vote, counted, folded, and the poll closed and sealed after it. */
async function completeNode(): Promise<void> {
  await mirrorEntry(database.db, SOURCE, { seq: 1, votes: 1 });
  await commit(batch(1, [vote(1, 'cats', 0)]));
  await foldAll();
  await close();
  await recordClosed(database.db, [closing(NODE)]);
  await recordSeals(database.db, [seal(SOURCE, 1)]);
}

describe('a poll becomes final', () => {
  test('when all sources have sealed it and all their jobs are counted, with its evidence', async () => {
    await completeNode();
    expect(await finalize()).toBe(true);
    expect(await finalize()).toBe(false);
    expect(await evidence()).toEqual({
      choices: [
        { id: 'cats', label: 'Cats', votes: 1 },
        { id: 'dogs', label: 'Dogs', votes: 0 },
      ],
      sources: { [SOURCE]: 1 },
      writtenOff: [],
      writtenOffJobs: [],
    });
    expect((await result())?.finalAt).toEqual(expect.any(Number));
  });

  test('with the fence of a source as its last job in the evidence', async () => {
    await mirrorEntry(database.db, OTHER_SOURCE, { seq: 0, votes: 0 });
    await completeNode();
    await recordClosed(database.db, [closing(OTHER_NODE)]);
    await recordFences(database.db, new Map([[OTHER_SOURCE, { seq: 0, votes: 0 }]]));
    expect(await finalize()).toBe(true);
    expect(await evidence()).toMatchObject({ sources: { [SOURCE]: 1, [OTHER_SOURCE]: 0 } });
  });

  test('not while it is open', async () => {
    await completeNode();
    await database.db.updateTable('polls').set({ closed_at: null }).execute();
    expect(await finalize()).toBe(false);
  });

  test('not while a node has not been read since the close was stored in it, even if all others were', async () => {
    await completeNode();
    await insertNode(database.db, OTHER_NODE);
    expect(await finalize()).toBe(false);
    expect(await awaited()).toMatchObject({ nodes: [OTHER_NODE], unsealed: [], uncounted: [] });
    await recordClosed(database.db, [closing(OTHER_NODE)]);
    expect(await finalize()).toBe(true);
  });

  test('not while a node was only read before Postgres started: it may hold a newer poll than a restored backup', async () => {
    await completeNode();
    await recordClosings(database.db, [closing(NODE)], '2001-01-01 00:00:00+00');
    expect(await finalize()).toBe(false);
    expect(await awaited()).toMatchObject({ nodes: [NODE], unsealed: [], uncounted: [] });
    await recordClosed(database.db, [closing(NODE)]);
    // Seals of this revision stay recorded.
    expect(await awaited()).toMatchObject({ nodes: [], unsealed: [], uncounted: [] });
    expect(await finalize()).toBe(true);
  });

  test('not while a source has not sealed, even if all its known jobs are counted', async () => {
    await mirrorEntry(database.db, OTHER_SOURCE, { seq: 0, votes: 0 });
    await completeNode();
    await recordClosed(database.db, [closing(OTHER_NODE)]);
    expect(await finalize()).toBe(false);
    expect(await awaited()).toMatchObject({ unsealed: [OTHER_SOURCE] });
    await recordSeals(database.db, [seal(OTHER_SOURCE, 0)]);
    expect(await finalize()).toBe(true);
  });

  test('not while a job before a seal has no receipt', async () => {
    await completeNode();
    await mirrorEntry(database.db, OTHER_SOURCE, { seq: 2, votes: 2 });
    await recordClosed(database.db, [closing(OTHER_NODE)]);
    await recordSeals(database.db, [seal(OTHER_SOURCE, 2)]);
    await commit(batch(2, [vote(2, 'dogs', 0)], OTHER_SOURCE));
    await foldAll();
    expect(await finalize()).toBe(false);
    expect(await awaited()).toMatchObject({ unsealed: [], uncounted: [OTHER_SOURCE] });
    await commit(batch(1, [vote(3, 'dogs', 0)], OTHER_SOURCE));
    await foldAll();
    expect(await finalize()).toBe(true);
    expect((await result())?.choices).toMatchObject([{ votes: 1 }, { votes: 2 }]);
  });

  test('not while the receipts of a source have fewer votes than its ledger', async () => {
    await mirrorEntry(database.db, OTHER_SOURCE, { seq: 1, votes: 500 });
    await commit(batch(1, [vote(2, 'dogs', 0)], OTHER_SOURCE));
    await completeNode();
    await recordClosed(database.db, [closing(OTHER_NODE)]);
    await recordSeals(database.db, [seal(OTHER_SOURCE, 1)]);
    expect(await finalize()).toBe(false);
    expect(await awaited()).toMatchObject({ uncounted: [], unexplained: [OTHER_SOURCE] });
    const audit = await auditSources(database.db);
    expect(audit.find(({ source }) => source === OTHER_SOURCE)).toMatchObject({ unexplainedVotes: 499 });
  });

  test('not by the seals and readings of an older revision', async () => {
    await completeNode();
    await database.db.updateTable('polls').set({ revision: 2 }).execute();
    expect(await finalize()).toBe(false);
    await recordClosed(database.db, [closing(NODE, 2)]);
    expect(await awaited()).toMatchObject({ nodes: [], unsealed: [SOURCE] });
    await recordSeals(database.db, [seal(SOURCE, 1)]);
    expect(await finalize()).toBe(false);
    await recordSeals(database.db, [seal(SOURCE, 1, 2)]);
    expect(await finalize()).toBe(true);
  });

  test('without a source that registered after the close was stored in its node', async () => {
    await completeNode();
    await mirrorEntry(database.db, SOURCE.replace('t0-1', 't9-9'), { seq: 0, votes: 0 });
    expect(await finalize()).toBe(true);
  });

  test('whatever happens to another poll', async () => {
    await mirrorEntry(database.db, SOURCE, { seq: 2, votes: 2 });
    await completeNode();
    expect(await awaited()).toMatchObject({ uncounted: [SOURCE] });
    await commit(batch(2, [vote(9, 'cats', 0, 'another')]));
    await foldAll();
    expect(await finalize()).toBe(true);
    await mirrorEntry(database.db, SOURCE, { seq: 9, votes: 9 });
    expect((await result())?.finalAt).not.toBeNull();
  });

  test('without a node that was written off, which its result names permanently', async () => {
    await mirrorEntry(database.db, OTHER_SOURCE, { seq: 3, votes: 30 }, Date.now() - 1_000);
    await completeNode();
    expect(await finalize()).toBe(false);
    expect(await writeOffNode(database.db, 'other', OPERATOR)).toBe('done');
    expect(await finalize()).toBe(true);
    expect((await result())?.writtenOff).toEqual([{ id: OTHER_NODE, name: 'other', reason: OPERATOR.why }]);
    const actions = await database.db.selectFrom('operator_actions').selectAll().execute();
    expect(actions).toMatchObject([{ ...OPERATOR, what: `write off node ${OTHER_NODE}` }]);
  });

  test('not without a written-off node that has been read again', async () => {
    await mirrorEntry(database.db, OTHER_SOURCE, { seq: 1, votes: 1 }, Date.now() - 1_000);
    await completeNode();
    await writeOffNode(database.db, OTHER_NODE, OPERATOR);
    await mirrorEntry(database.db, OTHER_SOURCE, { seq: 1, votes: 1 }, Date.now() + 1_000);
    expect(await finalize()).toBe(false);
    expect(await awaited()).toMatchObject({ nodes: [OTHER_NODE] });
  });
});

describe('once a poll is final', () => {
  test('a late vote for it is rejected and kept, and the result does not change', async () => {
    await completeNode();
    await finalize();
    expect(await commit(batch(2, [vote(2, 'dogs', 0)]))).toMatchObject({ counted: 0, rejected: 1 });
    expect(await database.db.selectFrom('rejected_votes').select('reason').execute()).toEqual([
      { reason: 'poll_final' },
    ]);
    expect(await auditLateVotes(database.db)).toEqual(new Map([[SOURCE, 1]]));
    expect((await result())?.choices).toMatchObject([{ votes: 1 }, { votes: 0 }]);
  });

  test('a commit that had begun before either counts in the result or is rejected', async () => {
    await completeNode();
    let finalizing: Promise<boolean> | undefined;
    await database.db.transaction().execute(async (trx) => {
      await commitBatches(trx, [batch(2, [vote(2, 'dogs', 0)])], 1);
      finalizing = finalize();
      await untilBlocked();
    });
    expect(await finalizing).toBe(true);
    expect((await result())?.choices).toMatchObject([{ votes: 1 }, { votes: 1 }]);
  });
});

describe('a fence', () => {
  test('is due for a source that has not sealed 5 s after the close was stored in its node, and replaces its seal', async () => {
    await completeNode();
    await database.db.updateTable('seals').set({ seq: null }).execute();
    expect(await readOverdueSources(database.db)).toEqual(new Map());
    await database.db
      .updateTable('closings')
      .set({ read_at: new Date(Date.now() - 6_000) })
      .execute();
    expect(await readOverdueSources(database.db)).toEqual(new Map([[NODE, [SOURCE]]]));
    expect(await recordFences(database.db, new Map([[SOURCE, { seq: 1, votes: 1 }]]))).toEqual([SOURCE]);
    expect(await readOverdueSources(database.db)).toEqual(new Map());
    expect(await finalize()).toBe(true);
  });

  test('discards later jobs, which neither count nor have a receipt', async () => {
    await mirrorEntry(database.db, SOURCE, { seq: 1, votes: 1 });
    await recordFences(database.db, new Map([[SOURCE, { seq: 1, votes: 1 }]]));
    expect(await commit(batch(1, [vote(1, 'cats', 0)]), batch(2, [vote(2, 'cats', 0)]))).toMatchObject({
      jobs: 1,
      discarded: 1,
      duplicates: 0,
      counted: 1,
    });
    expect(await storedReceipts(database.db)).toHaveLength(1);
  });

  test('is the highest number known, and neither a mirror nor another fence changes it', async () => {
    await mirrorEntry(database.db, SOURCE, { seq: 3, votes: 3 });
    await commit(batch(4, [vote(1, 'cats', 0)]));
    await recordFences(database.db, new Map([[SOURCE, { seq: 2, votes: 2 }]]));
    await recordFences(database.db, new Map([[SOURCE, { seq: 9, votes: 9 }]]));
    await mirrorEntry(database.db, SOURCE, { seq: 8, votes: 8 });
    const row = await database.db.selectFrom('sources').selectAll().executeTakeFirst();
    expect(row).toMatchObject({ fenced_seq: 4, accepted_seq: 4, accepted_votes: 3 });
  });
});

describe('a fold', () => {
  test('replaces the contiguous receipts by their sums, and leaves duplicates recognizable', async () => {
    await commit(...[1, 2, 3, 5].map((seq) => batch(seq, [vote(seq, 'cats', 0)])));
    await mirrorEntry(database.db, SOURCE, { seq: 5, votes: 5 });
    await foldAll();
    expect((await storedReceipts(database.db)).map(({ seq }) => seq)).toEqual([5]);
    expect(await auditSources(database.db)).toMatchObject([
      { acceptedSeq: 5, jobs: 4, votes: 4, counted: 4, missingJobs: 1, missing: [4], unexplainedVotes: 0 },
    ]);
    expect(await commit(batch(2, [vote(2, 'dogs', 9)]))).toMatchObject({ jobs: 0, duplicates: 1 });
    expect(await readReceipt(database.db, jobKey(SOURCE, 2))).toBe('counted');
    expect(await readReceipt(database.db, jobKey(SOURCE, 4))).toBe('pending');
    await commit(batch(4, [vote(4, 'cats', 0)]));
    await foldAll();
    expect(await storedReceipts(database.db)).toEqual([]);
    expect(await auditSources(database.db)).toMatchObject([{ jobs: 5, counted: 5, unexplainedVotes: 0 }]);
  });

  test('does not let a delayed commit of a folded job count it again', async () => {
    const job = batch(1, [vote(1, 'cats', 0)]);
    await commit(job);
    await mirrorEntry(database.db, SOURCE, { seq: 1, votes: 1 });
    // The statement of the other commit takes its snapshot before the fold and its locks after it.
    let late: Promise<CommitResult> | undefined;
    await database.db.transaction().execute(async (trx) => {
      await trx.selectFrom('sources').select('source').forUpdate().execute();
      late = commit(job);
      await untilBlocked();
      while ((await foldReceipts(trx)) > 0);
    });
    expect(await late).toMatchObject({ jobs: 0, duplicates: 1, counted: 0 });
    expect(await auditSources(database.db)).toMatchObject([{ jobs: 1, votes: 1 }]);
    expect(await storedReceipts(database.db)).toEqual([]);
  });

  test('leaves a source alone that is being committed', async () => {
    await commit(batch(1, [vote(1, 'cats', 0)]));
    await mirrorEntry(database.db, SOURCE, { seq: 1, votes: 1 });
    await database.db.transaction().execute(async (trx) => {
      await commitBatches(trx, [batch(2, [vote(2, 'cats', 0)])], 1);
      expect(await foldReceipts(database.db)).toBe(0);
    });
    expect(await foldReceipts(database.db)).toBe(1);
  });
});
