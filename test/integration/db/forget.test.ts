import { sql } from 'kysely';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { auditSources, auditTallies } from '#db/audit.ts';
import type { Db } from '#db/client.ts';
import { commitBatches } from '#db/commit.ts';
import { forgetPoll } from '#db/control.ts';
import { finalizePoll } from '#db/final.ts';
import { deleteForgotten, forgetExpired } from '#db/forget.ts';
import { adoptPolls, applyPollsFile, readStoredPolls } from '#db/polls.ts';
import { readResults } from '#db/results.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { mirrorEntry, storedTallies, storedVotes } from '#kit/tables.ts';
import { batch, SOURCE, vote, voterId } from '#kit/votes.ts';

const OPERATOR = { who: 'ada', why: 'the season is over' };
const CHOICES = ['yes', 'no'].map((id) => ({ id, label: id }));
const DAY_MS = 24 * 3_600_000;

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.remove());
beforeEach(async () => {
  const tables = [
    'polls_files',
    'choices',
    'polls',
    'votes',
    'tallies',
    'receipts',
    'rejected_votes',
    'operator_actions',
  ];
  for (const table of tables as 'polls'[]) await database.db.deleteFrom(table).execute();
});

/** Two polls with three votes each, one of them rejected. The first is final. */
async function castVotes(options: { hidden?: boolean; retainVotesDays?: number } = {}): Promise<void> {
  const polls = ['a', 'b'].map((id) => ({ id, question: `${id}?`, choices: CHOICES, ...options }));
  await applyPollsFile(database.db, { version: 1, polls });
  const votes = ['a', 'b'].flatMap((poll) => [
    vote(1, 'yes', 0, poll),
    vote(2, 'no', 0, poll),
    vote(3, 'never', 0, poll),
  ]);
  // Votes for unknown choices wait until their node was read.
  await mirrorEntry(database.db, SOURCE, { seq: 1, votes: votes.length });
  await commitBatches(database.db, [batch(1, votes)], 1);
  await database.db.updateTable('polls').set({ closed_at: new Date() }).where('id', '=', 'a').execute();
  await finalizePollAlone();
}

/** Without nodes, nothing is awaited. */
async function finalizePollAlone(): Promise<void> {
  await database.db.deleteFrom('sources').execute();
  await database.db.deleteFrom('nodes').execute();
  expect(await finalizePoll(database.db, 'a')).toBe(true);
}

async function deleteAll(batchMax?: number): Promise<number> {
  let calls = 0;
  while ((await deleteForgotten(database.db, batchMax)) > 0) calls += 1;
  return calls;
}

const votesOf = async (poll: string) =>
  [...(await storedVotes(database.db)).keys()].filter((key) => key.startsWith(`${poll} `)).length;
const rejectedOf = async (poll: string) =>
  (await database.db.selectFrom('rejected_votes').select('vote').execute()).filter(
    ({ vote: rejected }) => (rejected as string[])[0] === poll,
  ).length;

test('a forgotten poll loses its votes and rejected votes, and keeps its result; other polls keep all', async () => {
  await castVotes();
  const before = await readResults(database.db);
  const sources = await auditSources(database.db);
  expect(await deleteForgotten(database.db)).toBe(0);
  expect(await forgetPoll(database.db, 'a', OPERATOR)).toEqual({ outcome: 'done' });
  expect(await deleteAll()).toBe(1);
  expect([await votesOf('a'), await rejectedOf('a'), await votesOf('b'), await rejectedOf('b')]).toEqual([
    0, 0, 2, 1,
  ]);
  expect(await readResults(database.db)).toEqual(before);
  expect(await auditSources(database.db)).toEqual(sources);
  expect((await storedTallies(database.db)).get('a yes')).toBe(1);
});

test('the recount finds no difference while and after votes are deleted, and still finds one elsewhere', async () => {
  await castVotes();
  await forgetPoll(database.db, 'a', OPERATOR);
  await deleteForgotten(database.db, 1);
  expect(await auditTallies(database.db)).toEqual([]);
  await deleteAll();
  expect(await auditTallies(database.db)).toEqual([]);
  await database.db.deleteFrom('votes').execute();
  expect((await auditTallies(database.db)).map(({ poll }) => poll)).toEqual(['b', 'b']);
});

test('deletion goes on in batches, wherever it was interrupted, and takes what arrives later', async () => {
  await castVotes();
  await forgetPoll(database.db, 'a', OPERATOR);
  expect(await deleteForgotten(database.db, 1)).toBe(2);
  expect(await votesOf('a')).toBe(1);
  // A batch goes on behind the last voter of the one before.
  await database.db
    .updateTable('polls')
    .set({ forgotten_to: voterId(2) })
    .where('id', '=', 'a')
    .execute();
  expect(await deleteForgotten(database.db, 1)).toBe(0);
  await database.db
    .updateTable('polls')
    .set({ forgotten_to: voterId(1) })
    .where('id', '=', 'a')
    .execute();
  expect(await deleteAll(1)).toBe(1);
  await commitBatches(database.db, [batch(2, [vote(9, 'yes', 0, 'a')])], 1);
  expect(await rejectedOf('a')).toBe(1);
  expect(await deleteAll()).toBe(1);
  expect(await rejectedOf('a')).toBe(0);
});

test('no vote of a poll that is not final is deleted, even if it is marked', async () => {
  await castVotes();
  await database.db.updateTable('polls').set({ forgotten_at: new Date() }).where('id', '=', 'b').execute();
  expect(await deleteAll()).toBe(0);
  expect(await votesOf('b')).toBe(2);
});

test('retainVotesDays forgets a final poll when they have passed, and records it', async () => {
  await castVotes({ retainVotesDays: 30 });
  expect(await forgetExpired(database.db)).toEqual([]);
  const monthAgo = new Date(Date.now() - 31 * DAY_MS);
  await database.db.updateTable('polls').set({ final_at: monthAgo }).where('id', '=', 'a').execute();
  expect(await forgetExpired(database.db)).toEqual(['a']);
  expect(await forgetExpired(database.db)).toEqual([]);
  await deleteAll();
  expect([await votesOf('a'), await votesOf('b')]).toEqual([0, 2]);
  const actions = await database.db
    .selectFrom('operator_actions')
    .selectAll()
    .where('what', '=', 'forget')
    .execute();
  expect(actions).toMatchObject([{ who: 'retainVotesDays', why: 'final for 30 days', poll: 'a' }]);
});

test('a hidden poll disappears with its result', async () => {
  await castVotes({ hidden: true });
  const shown = async () => (await readResults(database.db)).polls.map(({ poll }) => poll);
  expect(await shown()).toEqual(['a', 'b']);
  await forgetPoll(database.db, 'a', OPERATOR);
  expect(await shown()).toEqual(['b']);
  await deleteAll();
  const [row] = await database.db.selectFrom('polls').select('result').where('id', '=', 'a').execute();
  expect(row).toEqual({ result: {} });
  expect([...(await storedTallies(database.db)).keys()].toSorted()).toEqual(['b no', 'b yes']);
});

test('after a restore of Postgres, what a node holds as forgotten is forgotten again, once it is final', async () => {
  await castVotes();
  const [poll] = await readStoredPolls(database.db);
  if (!poll) throw new Error('no poll');
  expect(await adoptPolls(database.db, [{ ...poll, isForgotten: true }])).toEqual(['a']);
  expect(await adoptPolls(database.db, [{ ...poll, isForgotten: true }])).toEqual([]);
  expect((await readStoredPolls(database.db))[0]).toEqual({ ...poll, isForgotten: true });
  await deleteAll();
  expect(await votesOf('a')).toBe(0);

  const other = (await readStoredPolls(database.db))[1];
  if (!other) throw new Error('no poll');
  await adoptPolls(database.db, [{ ...other, revision: 2, isClosed: true, isForgotten: true }]);
  expect(await deleteAll()).toBe(0);
  expect((await readStoredPolls(database.db))[1]).toMatchObject({
    revision: 2,
    isClosed: true,
    isForgotten: true,
  });
});

test('what was rejected for a poll is found by its index, whatever was rejected for others', async () => {
  await castVotes();
  await forgetPoll(database.db, 'a', OPERATOR);
  await sql`
    insert into rejected_votes (source, seq, index, reason, vote)
    select source, seq, copy, reason, vote from rejected_votes, generate_series(1001, 2000) as copy where vote ->> 0 = 'b'
  `.execute(database.db);
  await sql`analyze rejected_votes, polls`.execute(database.db);
  const entriesRead = async (db: Db) => {
    await sql`select pg_stat_force_next_flush()`.execute(db);
    const { rows } = await sql<{ entries: number }>`
      select idx_tup_read::integer as entries from pg_stat_user_indexes where indexrelname = 'rejected_votes_poll'
    `.execute(db);
    return rows[0]?.entries ?? Number.NaN;
  };
  const entries = await database.db.connection().execute(async (db) => {
    const before = await entriesRead(db);
    // Tables this small are read as a whole unless that is the last resort.
    await sql`set enable_seqscan = off`.execute(db);
    // First the votes are deleted, then nothing is found.
    expect([await deleteForgotten(db), await deleteForgotten(db)]).toEqual([3, 0]);
    await sql`reset enable_seqscan`.execute(db);
    return (await entriesRead(db)) - before;
  });
  expect(entries).toBeGreaterThan(0);
  expect(entries).toBeLessThan(1000);
});
