import { sql } from 'kysely';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { auditSources } from '#db/audit.ts';
import type { Db } from '#db/client.ts';
import { type CommitResult, commitBatches } from '#db/commit.ts';
import { retryPolicyFor } from '#db/errors.ts';
import { recordFences } from '#db/fences.ts';
import { finalizePoll, readAwaited, recordSeals } from '#db/final.ts';
import { foldReceipts } from '#db/fold.ts';
import { readNodes } from '#db/nodes.ts';
import { applyPollsFile, readStoredPolls } from '#db/polls.ts';
import { readReceipt, readResults } from '#db/results.ts';
import { JOBS_PER_WRITE_OFF_MAX, type WriteOffOutcome, writeOffJobs } from '#db/write-off.ts';
import { jobKey } from '#job';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { emptyTables, mirrorEntry, recordClosed, storedReceipts, storedTallies } from '#kit/tables.ts';
import { until } from '#kit/until.ts';
import { batch, NODE, OTHER_SOURCE, POLL, SOURCE, vote } from '#kit/votes.ts';

const OPERATOR = { who: 'ada', why: 'its data is damaged' };
const JOB_2 = jobKey(SOURCE, 2);

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.remove());

/** A source with three jobs of 1, 2 and 3 votes, of which the second has no receipt. */
beforeEach(async () => {
  await emptyTables(database.db);
  await mirrorEntry(database.db, SOURCE, { seq: 3, votes: 6 });
  await commit(1, 3);
});

/** Returns a job with as many votes as its number. */
const job = (seq: number, votes = seq) =>
  batch(
    seq,
    Array.from({ length: votes }, (_, index) => vote(seq * 10 + index, 'cats', 0)),
  );
const commit = (...seqs: number[]) =>
  commitBatches(
    database.db,
    seqs.map((seq) => job(seq)),
    0,
  );
const writeOff = (seqs: readonly number[], source = SOURCE) =>
  writeOffJobs(
    database.db,
    seqs.map((seq) => ({ source, seq })),
    OPERATOR,
  );
const fold = async (db: Db = database.db) => {
  while ((await foldReceipts(db)) > 0);
};
const source = async () => (await auditSources(database.db))[0];
const finalize = () => finalizePoll(database.db, POLL);
const declared = () => database.db.selectFrom('written_off_jobs').select(['source', 'seq']).execute();
const actions = () => database.db.selectFrom('operator_actions').select(['who', 'what', 'why']).execute();

async function close(seq: number): Promise<void> {
  await database.db.updateTable('polls').set({ closed_at: new Date() }).where('id', '=', POLL).execute();
  await recordClosed(database.db, [{ nodeId: NODE, poll: POLL, revision: 1 }]);
  await recordSeals(database.db, [{ source: SOURCE, poll: POLL, revision: 1, seq }]);
}

async function untilBlocked(statements = 1): Promise<void> {
  await until(`statements wait for locks: ${statements}`, async () => {
    const { rows } = await sql`
      select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
    `.execute(database.db);
    return rows.length === statements;
  });
}

/** Commits as a worker does, which retries when it loses a race. */
async function commitRetrying(seq: number): Promise<CommitResult> {
  try {
    return await commit(seq);
  } catch (error) {
    if (retryPolicyFor(error) !== 'retry-now') throw error;
    return commit(seq);
  }
}

describe('a job that is written off', () => {
  test('no longer keeps a poll from becoming final, and the result names it with the reason', async () => {
    await fold();
    await close(3);
    expect(await finalize()).toBe(false);
    expect((await readAwaited(database.db)).get(POLL)).toMatchObject({ uncounted: [SOURCE] });
    expect(await writeOff([2])).toEqual({ outcome: 'done' });
    await fold();
    expect(await finalize()).toBe(true);
    const { polls } = await readResults(database.db);
    expect(polls.find(({ poll }) => poll === POLL)).toMatchObject({
      choices: [{ votes: 4 }, { votes: 0 }],
      writtenOff: [],
      writtenOffJobs: [{ id: NODE, name: 'node', reason: OPERATOR.why, jobs: [JOB_2] }],
    });
  });

  test('is recorded with who declared it, and why', async () => {
    await writeOff([2]);
    expect(await actions()).toEqual([{ who: 'ada', what: `write off jobs ${JOB_2}`, why: OPERATOR.why }]);
    expect(await readReceipt(database.db, JOB_2)).toBe('written_off');
    expect(await readReceipt(database.db, jobKey(SOURCE, 3))).toBe('counted');
  });

  test('has the votes that the receipts lack, known once they are compared with the ledger', async () => {
    await writeOff([2]);
    expect(await source()).toMatchObject({ writtenOffVotes: 0, comparedSeq: 0, missingJobs: 0 });
    await fold();
    expect(await source()).toMatchObject({
      jobs: 3,
      votes: 4,
      comparedSeq: 3,
      writtenOffVotes: 2,
      writtenOffJobs: [{ seq: 2, reason: OPERATOR.why }],
      unexplainedVotes: 0,
    });
    expect(await readNodes(database.db)).toMatchObject([{ uncountedJobs: 0, uncountedVotes: 0 }]);
    expect(await readReceipt(database.db, JOB_2)).toBe('written_off');
  });

  test('does not excuse votes that the ledger gains at the same job', async () => {
    await writeOff([2]);
    await fold();
    await mirrorEntry(database.db, SOURCE, { seq: 3, votes: 7 });
    await fold();
    expect(await source()).toMatchObject({ writtenOffVotes: 2, unexplainedVotes: 1 });
  });

  test('does not excuse votes that other jobs lack before or after it', async () => {
    await writeOff([2]);
    await fold();
    await mirrorEntry(database.db, SOURCE, { seq: 4, votes: 10 });
    await commitBatches(database.db, [job(4, 1)], 0);
    await fold();
    expect(await source()).toMatchObject({ writtenOffVotes: 2, unexplainedVotes: 3 });
    await mirrorEntry(database.db, SOURCE, { seq: 5, votes: 15 });
    await fold();
    await writeOff([5]);
    await fold();
    expect(await source()).toMatchObject({ writtenOffVotes: 7, unexplainedVotes: 3 });
    await close(5);
    expect(await finalize()).toBe(false);
  });

  test('does not excuse receipts with more votes than the ledger', async () => {
    await commitBatches(database.db, [job(5, 4)], 0);
    await mirrorEntry(database.db, SOURCE, { seq: 5, votes: 7 });
    await writeOff([2, 4]);
    await fold();
    expect(await source()).toMatchObject({ writtenOffVotes: 0, unexplainedVotes: -1 });
    await close(5);
    expect(await finalize()).toBe(false);
    expect((await readAwaited(database.db)).get(POLL)).toMatchObject({ unexplained: [SOURCE] });
  });

  test('is not named by a poll that the source had sealed before it', async () => {
    await writeOff([2]);
    await mirrorEntry(database.db, SOURCE, { seq: 4, votes: 10 });
    await writeOff([4]);
    await fold();
    await close(3);
    expect(await finalize()).toBe(true);
    const { polls } = await readResults(database.db);
    expect(polls.find(({ poll }) => poll === POLL)?.writtenOffJobs).toMatchObject([{ jobs: [JOB_2] }]);
  });

  test('is named by polls that its fenced source never sealed, once', async () => {
    await writeOff([2]);
    await recordFences(database.db, new Map([[SOURCE, { seq: 3, votes: 6 }]]));
    await database.db.updateTable('polls').set({ closed_at: new Date() }).execute();
    const polls = (await readResults(database.db)).polls.map(({ poll }) => poll);
    await recordClosed(
      database.db,
      polls.map((poll) => ({ nodeId: NODE, poll, revision: 1 })),
    );
    await fold();
    for (const poll of polls) expect(await finalizePoll(database.db, poll)).toBe(true);
    for (const { writtenOffJobs } of (await readResults(database.db)).polls) {
      expect(writtenOffJobs).toMatchObject([{ jobs: [JOB_2] }]);
    }
  });

  test('is not named by a poll that came after its source was fenced', async () => {
    await writeOff([2]);
    await recordFences(database.db, new Map([[SOURCE, { seq: 3, votes: 6 }]]));
    const choices = ['yes', 'no'].map((id) => ({ id, label: id }));
    const polls = [...(await readStoredPolls(database.db)), { id: 'later', question: 'Later?', choices }];
    await applyPollsFile(database.db, { version: 2, polls });
    await database.db.updateTable('polls').set({ closed_at: new Date() }).execute();
    await fold();
    const named = [];
    const revisions = new Map((await readStoredPolls(database.db)).map(({ id, revision }) => [id, revision]));
    for (const poll of [POLL, 'later']) {
      await recordClosed(database.db, [{ nodeId: NODE, poll, revision: revisions.get(poll) ?? 0 }]);
      expect(await finalizePoll(database.db, poll)).toBe(true);
      const result = (await readResults(database.db)).polls.find((found) => found.poll === poll);
      named.push(result?.writtenOffJobs);
    }
    expect(named).toMatchObject([[{ jobs: [JOB_2] }], []]);
  });
});

describe('a write-off', () => {
  test.each<[string, number[], string, WriteOffOutcome]>([
    ['a counted job', [2, 3], SOURCE, { outcome: 'counted', jobs: [jobKey(SOURCE, 3)] }],
    ['a folded job', [1, 2], SOURCE, { outcome: 'counted', jobs: [jobKey(SOURCE, 1)] }],
    ['a job above the ledger', [2, 4], SOURCE, { outcome: 'unknown', jobs: [jobKey(SOURCE, 4)] }],
    [
      'a job of an unknown source',
      [1],
      OTHER_SOURCE,
      { outcome: 'unknown', jobs: [jobKey(OTHER_SOURCE, 1)] },
    ],
  ])('of %s is refused and changes nothing, for the other jobs neither', async (_case, seqs, of, outcome) => {
    await fold();
    expect(await writeOff(seqs, of)).toEqual(outcome);
    expect(await declared()).toEqual([]);
    expect(await storedReceipts(database.db)).toMatchObject([{ seq: 3 }]);
    expect(await actions()).toEqual([]);
  });

  test('of a job that was written off is refused, folded or not', async () => {
    await writeOff([2]);
    expect(await writeOff([2])).toEqual({ outcome: 'counted', jobs: [JOB_2] });
    await fold();
    expect(await writeOff([2])).toEqual({ outcome: 'counted', jobs: [JOB_2] });
    expect(await declared()).toHaveLength(1);
  });

  test('has a bound', async () => {
    const many = Array.from({ length: JOBS_PER_WRITE_OFF_MAX + 1 }, (_, index) => index + 1);
    await expect(writeOff(many)).rejects.toThrow('101 jobs in one write-off');
  });

  test('makes a later commit of the job say so, and count nothing', async () => {
    await writeOff([2]);
    const late = { jobs: 0, duplicates: 0, counted: 0, writtenOff: new Map([[JOB_2, OPERATOR.why]]) };
    expect(await commit(2)).toMatchObject(late);
    await fold();
    expect(await commit(2, 3)).toMatchObject({ ...late, duplicates: 1 });
    expect(await storedTallies(database.db)).toEqual(new Map([[`${POLL} cats`, 4]]));
  });
});

describe('of a write-off and a concurrent commit of the job', () => {
  test('the commit counts and the write-off is refused, if the commit is first', async () => {
    let writing: Promise<WriteOffOutcome> | undefined;
    await database.db.transaction().execute(async (trx) => {
      await commitBatches(trx, [job(2)], 0);
      writing = writeOff([2]);
      await untilBlocked();
    });
    expect(await writing).toEqual({ outcome: 'counted', jobs: [JOB_2] });
    expect(await declared()).toEqual([]);
    expect(await storedTallies(database.db)).toEqual(new Map([[`${POLL} cats`, 6]]));
  });

  test('the commit counts nothing, if the write-off is first', async () => {
    let committing: Promise<CommitResult> | undefined;
    let writing: Promise<WriteOffOutcome> | undefined;
    await database.db.transaction().execute(async (trx) => {
      // Stops the write-off at its last statement.
      await sql`lock table operator_actions in exclusive mode`.execute(trx);
      writing = writeOff([2]);
      await untilBlocked();
      committing = commitRetrying(2);
      await untilBlocked(2);
      expect(await foldReceipts(database.db)).toBe(0);
    });
    expect(await writing).toEqual({ outcome: 'done' });
    expect((await committing)?.writtenOff).toEqual(new Map([[JOB_2, OPERATOR.why]]));
    expect(await storedTallies(database.db)).toEqual(new Map([[`${POLL} cats`, 4]]));
  });

  test('a job that is committed and folded while a write-off waits stays counted', async () => {
    let writing: Promise<WriteOffOutcome> | undefined;
    await database.db.transaction().execute(async (trx) => {
      await trx.selectFrom('sources').select('source').forUpdate().execute();
      writing = writeOff([2]);
      await untilBlocked();
      await commitBatches(trx, [job(2)], 0);
      await fold(trx);
    });
    expect(await writing).toEqual({ outcome: 'counted', jobs: [JOB_2] });
    expect(await source()).toMatchObject({ jobs: 3, votes: 6, writtenOffVotes: 0, writtenOffJobs: [] });
    expect(await storedReceipts(database.db)).toEqual([]);
  });
});
