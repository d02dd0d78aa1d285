import { sql } from 'kysely';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { auditSources, auditTallies } from '#db/audit.ts';
import { commitBatches } from '#db/commit.ts';
import { upsertPolls } from '#db/polls.ts';
import { replayRejectedVotes } from '#db/replay.ts';
import type { Vote } from '#job';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { storedReceipts, storedTallies, storedVotes } from '#kit/tables.ts';
import { until } from '#kit/until.ts';
import { batch, modelOf, vote } from '#kit/votes.ts';

const LATE = 'tea-or-coffee';
const SHARD = 1;
const latePoll = {
  id: LATE,
  question: 'Tea or coffee?',
  choices: ['tea', 'coffee'].map((id) => ({ id, label: id })),
};

let database: TestDatabase;
beforeEach(async () => {
  database = await createDatabase();
});
afterEach(() => database.remove());

const rejected = () => database.db.selectFrom('rejected_votes').select(['seq', 'index', 'reason']).execute();
const late = (voter: number, choice: string, castAt: number): Vote => vote(voter, choice, castAt, LATE);

async function isWaitingForTableLock(): Promise<boolean> {
  const { rows } = await sql`
    select from pg_locks where relation = 'rejected_votes'::regclass and not granted
  `.execute(database.db);
  return rows.length > 0;
}

async function expectCounted(votes: readonly Vote[]): Promise<void> {
  const model = modelOf(votes);
  expect(await storedVotes(database.db)).toEqual(model.votes);
  expect(await storedTallies(database.db)).toEqual(model.tallies);
  expect(await auditTallies(database.db)).toEqual([]);
}

describe('votes rejected because their poll was unknown', () => {
  test('are counted once the poll is added, and their receipts updated', async () => {
    const first = [vote(1, 'cats', 0), late(1, 'tea', 1), late(2, 'tea', 2)];
    const second = [late(1, 'coffee', 3), late(2, 'coffee', 0), late(3, 'milk', 0)];
    await commitBatches(database.db, [batch(1, first), batch(2, second)], SHARD);
    expect(await rejected()).toHaveLength(5);

    await upsertPolls(database.db, [latePoll]);
    expect(await replayRejectedVotes(database.db)).toBe(4);

    await expectCounted([...first, ...second.slice(0, 2)]);
    expect(await storedReceipts(database.db)).toEqual([
      { source: 'node.t0-1', seq: 1, votes: 3, counted: 2, changed: 0, superseded: 1, rejected: 0 },
      { source: 'node.t0-1', seq: 2, votes: 3, counted: 1, changed: 0, superseded: 1, rejected: 1 },
    ]);
    expect(await rejected()).toEqual([{ seq: 2, index: 2, reason: 'unknown_poll' }]);
    expect(await auditSources(database.db)).toMatchObject([
      { votes: 6, counted: 3, superseded: 2, rejected: 1 },
    ]);
  });

  test('yield to newer votes of their voters and replace older ones', async () => {
    const before = [late(1, 'tea', 1), late(2, 'tea', 5)];
    await commitBatches(database.db, [batch(1, before)], SHARD);
    await upsertPolls(database.db, [latePoll]);
    const since = [late(1, 'coffee', 2), late(2, 'coffee', 4)];
    await commitBatches(database.db, [batch(2, since)], SHARD);

    expect(await replayRejectedVotes(database.db)).toBe(2);

    await expectCounted([...before, ...since]);
    expect(await storedReceipts(database.db)).toMatchObject([
      { seq: 1, counted: 0, changed: 1, superseded: 1, rejected: 0 },
      { seq: 2, counted: 2, rejected: 0 },
    ]);
  });

  test('are counted once by concurrent workers', async () => {
    const votes = Array.from({ length: 25_000 }, (_, voter) => late(voter, 'tea', 0));
    const jobs = [votes.slice(0, 9_000), votes.slice(9_000, 18_000), votes.slice(18_000)];
    await commitBatches(
      database.db,
      jobs.map((each, index) => batch(index + 1, each)),
      SHARD,
    );
    await upsertPolls(database.db, [latePoll]);

    const counted = await Promise.all([replayRejectedVotes(database.db), replayRejectedVotes(database.db)]);

    expect(counted[0] + counted[1]).toBe(votes.length);
    await expectCounted(votes);
    expect(await rejected()).toEqual([]);
  });

  test('are counted when their commit is still in progress', async () => {
    const written = Promise.withResolvers<void>();
    const released = Promise.withResolvers<void>();
    const commit = database.db.transaction().execute(async (transaction) => {
      await commitBatches(transaction, [batch(1, [late(1, 'tea', 0)])], SHARD);
      written.resolve();
      await released.promise;
    });
    await written.promise;
    await upsertPolls(database.db, [latePoll]);
    const replay = replayRejectedVotes(database.db);
    await until('the replay waits for the commit', isWaitingForTableLock);
    released.resolve();
    await commit;

    expect(await replay).toBe(1);
    await expectCounted([late(1, 'tea', 0)]);
  });
});
