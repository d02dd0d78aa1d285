import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { auditSources, auditTallies } from '#db/audit.ts';
import { commitBatches } from '#db/commit.ts';
import { retryPolicyFor } from '#db/errors.ts';
import { recordFences } from '#db/fences.ts';
import { mirrorNodes, registerSources } from '#db/sources.ts';
import { type Batch, JOB_VERSION, parseBatch, type ReceivedBatch } from '#job';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { emptyTables, mirrorEntry, storedReceipts, storedTallies, storedVotes } from '#kit/tables.ts';
import { batch, modelOf, NODE, OTHER_SOURCE, POLL, SOURCE, vote, voterId } from '#kit/votes.ts';

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
});
beforeEach(async () => {
  await emptyTables(database.db);
  await readNode();
});
afterAll(() => database.remove());

const commit = (batches: readonly Batch[], shard = 1) => commitBatches(database.db, batches, shard);

/** Records that the node of `SOURCE` was read. */
const readNode = () => mirrorEntry(database.db, SOURCE, { seq: 0, votes: 0 });

/** Commits as a committer does: retries after a lost race. */
async function commitRacing(batches: readonly ReceivedBatch[], shard: number): Promise<void> {
  for (;;) {
    try {
      await commitBatches(database.db, batches, shard);
      return;
    } catch (error) {
      if (retryPolicyFor(error) !== 'retry-now') throw error;
    }
  }
}

/** A node of `explain (analyze, format json)`, of what matters here. */
interface PlanNode {
  readonly 'Actual Rows': number;
  readonly 'Actual Loops': number;
  readonly 'Rows Removed by Join Filter'?: number;
  readonly Plans?: readonly PlanNode[];
}

/** Commits and returns the executed plan of the statement. */
async function explainCommit(batches: readonly Batch[]): Promise<PlanNode> {
  let plan: PlanNode | undefined;
  await registerSources(database.db, [SOURCE]);
  const explaining = database.db.withPlugin({
    transformQuery: ({ node }) => {
      if (node.kind !== 'RawNode') throw new TypeError('a commit is one raw statement');
      const [first, ...others] = node.sqlFragments;
      return { ...node, sqlFragments: [`explain (analyze, format json) ${first}`, ...others] };
    },
    transformResult: async ({ result }) => {
      const [row] = result.rows as { 'QUERY PLAN': [{ Plan: PlanNode }] }[];
      plan = row?.['QUERY PLAN'][0].Plan;
      return { ...result, rows: [{ deferred: [] }] };
    },
  });
  await commitBatches(explaining, batches, 1);
  if (!plan) throw new Error('explain returned no plan');
  return plan;
}

/** Returns the rows that each node of a plan has read, over all its loops. */
function rowsRead({ Plans = [], ...node }: PlanNode): number[] {
  const own = (node['Actual Rows'] + (node['Rows Removed by Join Filter'] ?? 0)) * node['Actual Loops'];
  return [own, ...Plans.flatMap(rowsRead)];
}

describe('a commit', () => {
  test('counts the votes of several jobs and writes a receipt for each', async () => {
    const result = await commit([
      batch(1, [vote(1, 'cats', 0), vote(2, 'dogs', 1)]),
      batch(2, [vote(3, 'cats', 2)]),
    ]);

    expect(result).toEqual({
      jobs: 2,
      duplicates: 0,
      discarded: 0,
      deferred: [],
      writtenOff: new Map(),
      counted: 3,
      changed: 0,
      superseded: 0,
      rejected: 0,
    });
    expect(await storedTallies(database.db)).toEqual(
      new Map([
        [`${POLL} cats`, 2],
        [`${POLL} dogs`, 1],
      ]),
    );
    expect(await storedReceipts(database.db)).toEqual([
      {
        source: 'node-aaaaaaaaaaaaa.t0-1',
        seq: 1,
        votes: 2,
        counted: 2,
        changed: 0,
        superseded: 0,
        rejected: 0,
      },
      {
        source: 'node-aaaaaaaaaaaaa.t0-1',
        seq: 2,
        votes: 1,
        counted: 1,
        changed: 0,
        superseded: 0,
        rejected: 0,
      },
    ]);
  });

  test.each([500, 2_500, 10_000])(
    'of %i votes reads every vote a constant number of times',
    async (votes) => {
      const batches = Array.from({ length: votes / 500 }, (_, job) =>
        batch(
          job + 1,
          Array.from({ length: 500 }, (_, index) => vote(job * 500 + index, 'cats', index)),
        ),
      );
      const plan = await explainCommit(batches);
      // A nested loop over the votes, which the planner chooses when it expects one row, reads votes² rows.
      expect(Math.max(...rowsRead(plan))).toBeLessThanOrEqual(2 * votes);
      expect(await storedVotes(database.db)).toHaveProperty('size', votes);
    },
  );

  test('stores the time of a vote with microsecond precision', async () => {
    const [poll, voter, choice] = vote(1, 'cats', 0);
    const castAt = 1_763_812_345_678_901;
    await commit([batch(1, [[poll, voter, choice, castAt]])]);
    expect([...(await storedVotes(database.db)).values()]).toEqual([[poll, voter, choice, castAt]]);
  });

  test('replaces an older vote of the same voter and adjusts the tallies', async () => {
    await commit([batch(1, [vote(1, 'cats', 0)])]);
    const result = await commit([batch(2, [vote(1, 'dogs', 1)])]);
    expect(result).toMatchObject({ counted: 0, changed: 1, superseded: 0 });
    expect(await storedTallies(database.db)).toEqual(new Map([[`${POLL} dogs`, 1]]));
  });

  test('ignores a vote older than the stored one', async () => {
    await commit([batch(1, [vote(1, 'dogs', 5)])]);
    const result = await commit([batch(2, [vote(1, 'cats', 4)])]);
    expect(result).toMatchObject({ counted: 0, changed: 0, superseded: 1 });
    expect(await storedTallies(database.db)).toEqual(new Map([[`${POLL} dogs`, 1]]));
  });

  test('breaks ties between equal times by choice, in either order', async () => {
    await commit([batch(1, [vote(1, 'dogs', 5)]), batch(2, [vote(2, 'cats', 5)])]);
    await commit([batch(3, [vote(1, 'cats', 5)]), batch(4, [vote(2, 'dogs', 5)])]);
    expect(await storedTallies(database.db)).toEqual(new Map([[`${POLL} dogs`, 2]]));
  });

  test('counts a repeated job once, alone or among new ones', async () => {
    const first = batch(1, [vote(1, 'cats', 0)]);
    await commit([first]);
    expect(await commit([first])).toMatchObject({ jobs: 0, duplicates: 1, counted: 0 });
    expect(await commit([first, batch(2, [vote(2, 'cats', 0)]), first])).toMatchObject({
      jobs: 1,
      duplicates: 2,
      counted: 1,
    });
    expect(await storedTallies(database.db)).toEqual(new Map([[`${POLL} cats`, 2]]));
  });

  test('counts the last vote of a voter who occurs several times in one job and in several', async () => {
    const result = await commit([
      batch(1, [vote(1, 'cats', 0), vote(1, 'dogs', 2), vote(1, 'cats', 1)]),
      batch(2, [vote(1, 'cats', 3)]),
    ]);
    expect(result).toMatchObject({ counted: 1, superseded: 3 });
    expect(await storedTallies(database.db)).toEqual(new Map([[`${POLL} cats`, 1]]));
  });

  test('stores votes for unknown polls and choices as rejected and counts the rest', async () => {
    const result = await commit([
      batch(1, [vote(1, 'cats', 0), vote(2, 'birds', 0), vote(3, 'cats', 0, 'no-such-poll')]),
    ]);
    expect(result).toMatchObject({ counted: 1, rejected: 2 });
    const rejected = await database.db.selectFrom('rejected_votes').selectAll().orderBy('index').execute();
    expect(rejected).toEqual([
      {
        source: 'node-aaaaaaaaaaaaa.t0-1',
        seq: 1,
        index: 1,
        reason: 'unknown_choice',
        vote: [...vote(2, 'birds', 0)],
      },
      {
        source: 'node-aaaaaaaaaaaaa.t0-1',
        seq: 1,
        index: 2,
        reason: 'unknown_poll',
        vote: [...vote(3, 'cats', 0, 'no-such-poll')],
      },
    ]);
  });

  test.each([
    ['poll', vote(2, 'cats', 0, 'no-such-poll')],
    ['choice', vote(2, 'birds', 0)],
  ])(
    'defers a vote for an unknown %s until its node is read: Postgres may be older than the node',
    async (_, unknown) => {
      // As in a backup: the node was read, for a server that has ended.
      await database.db
        .updateTable('nodes')
        .set({ read_since: new Date(0) })
        .execute();
      const batches = [batch(1, [vote(1, 'cats', 0), unknown]), batch(2, [vote(3, 'cats', 0)], OTHER_SOURCE)];
      await mirrorEntry(database.db, OTHER_SOURCE, { seq: 0, votes: 0 });
      const nothing = {
        writtenOff: new Map(),
        changed: 0,
        superseded: 0,
        rejected: 0,
        duplicates: 0,
        discarded: 0,
      };
      expect(await commit(batches)).toEqual({ ...nothing, jobs: 1, counted: 1, deferred: [`${SOURCE}.1`] });
      expect(await database.db.selectFrom('rejected_votes').selectAll().execute()).toEqual([]);
      await readNode();
      expect(await commit(batches)).toMatchObject({
        jobs: 1,
        counted: 1,
        rejected: 1,
        duplicates: 1,
        deferred: [],
      });
    },
  );

  test('discards a job above the fence instead of deferring it: no vote in it was acknowledged', async () => {
    await recordFences(database.db, new Map([[SOURCE, { seq: 0, votes: 0 }]]));
    await database.db
      .updateTable('nodes')
      .set({ read_since: new Date(0) })
      .execute();
    const unknown = [vote(2, 'cats', 0, 'no-such-poll')];
    expect(await commit([batch(1, unknown)])).toMatchObject({ discarded: 1, deferred: [], rejected: 0 });
  });

  test('defers a vote for an unknown poll if the node was read for a server that was replaced meanwhile', async () => {
    const node = { id: NODE, name: 'node', ageMs: 0, clockSkewMs: 0, ledger: new Map() };
    await mirrorNodes(database.db, [node], '2001-01-01 00:00:00+00');
    expect(await commit([batch(1, [vote(2, 'cats', 0, 'no-such-poll')])])).toMatchObject({ jobs: 0 });
  });

  test('does not defer votes for known polls: a node that is not read for a while is still drained', async () => {
    await database.db.deleteFrom('sources').execute();
    await database.db.deleteFrom('nodes').execute();
    expect(await commit([batch(1, [vote(1, 'cats', 0)])])).toMatchObject({ counted: 1, deferred: [] });
  });

  test('stores malformed votes as rejected with their index, whatever they contain', async () => {
    const hostile = [
      'not a vote',
      [POLL, 'not-a-uuid', 'cats', 1],
      [POLL, voterId(1), 'cats\0', 1],
      [POLL, voterId(1), '\ud800', 1],
      [POLL, voterId(1), 'cats', 1.5],
      [POLL, voterId(1), 'cats', -1],
      [POLL, voterId(1), 'cats', 1e300],
      null,
      { toString: 'no' },
      // Too long for an index, and not compressible.
      Array.from({ length: 2_000 }, (_, index) => String.fromCharCode(0x4e00 + index * 7)).join(''),
    ];
    const votes = [...hostile, vote(9, 'ca\'ts"{},\\', 0), vote(1, 'cats', 0)];
    const received = parseBatch({ v: JOB_VERSION, source: 'node-aaaaaaaaaaaaa.t0-1', seq: 1, votes });
    const result = await commitBatches(database.db, [received], 1);
    expect(result).toMatchObject({ jobs: 1, counted: 1, rejected: hostile.length + 1 });
    const rejected = await database.db
      .selectFrom('rejected_votes')
      .select(['index', 'reason', 'vote'])
      .orderBy('index')
      .execute();
    expect(rejected.map(({ index }) => index)).toEqual([...hostile.keys(), hostile.length]);
    expect(rejected.slice(0, -1).every(({ reason }) => reason === 'malformed')).toBe(true);
    expect(rejected[0]?.vote).toBe('"not a vote"');
  });

  test('writes a receipt for a job whose votes are all malformed', async () => {
    const received = parseBatch({ v: JOB_VERSION, source: 'node-aaaaaaaaaaaaa.t0-1', seq: 1, votes: [null] });
    expect(await commitBatches(database.db, [received], 1)).toMatchObject({ jobs: 1, rejected: 1 });
  });

  test('counts a job once when several workers commit it concurrently', async () => {
    const batches = Array.from({ length: 20 }, (_, job) =>
      batch(
        job + 1,
        Array.from({ length: 50 }, (_, index) => vote(job * 50 + index, 'cats', index)),
      ),
    );
    await Promise.all(
      [1, 2, 3, 4].map((shard) => commitRacing(shard % 2 ? batches : batches.toReversed(), shard)),
    );
    expect(await storedTallies(database.db)).toEqual(new Map([[`${POLL} cats`, 1_000]]));
    expect(await auditTallies(database.db)).toEqual([]);
  });

  test('keeps tallies exact when voters change their votes in concurrent commits', async () => {
    const rounds = Array.from({ length: 8 }, (_, round) =>
      batch(
        round + 1,
        Array.from({ length: 200 }, (_, voter) => vote(voter, (voter + round) % 3 ? 'cats' : 'dogs', round)),
      ),
    );
    await Promise.all(rounds.map((round, index) => commitRacing([round], index)));
    const model = modelOf(rounds.flatMap(({ votes }) => votes));
    expect(await storedVotes(database.db)).toEqual(model.votes);
    expect(await storedTallies(database.db)).toEqual(model.tallies);
  });
});

test('any order, grouping and repetition of jobs gives the same tables', async () => {
  const aVote = fc
    .record({
      voter: fc.nat(5),
      choice: fc.constantFrom('cats', 'dogs', 'birds'),
      castAt: fc.nat(6),
    })
    .map(({ voter, choice, castAt }) => vote(voter, choice, castAt));
  const jobs = fc
    .array(fc.array(aVote, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 6 })
    .map((lists) => lists.map((votes, index) => batch(index + 1, votes)));
  const deliveries = jobs.chain((all) =>
    fc
      .tuple(
        fc.shuffledSubarray(all, { minLength: all.length }),
        fc.array(fc.array(fc.constantFrom(...all), { minLength: 1, maxLength: 4 }), { maxLength: 4 }),
        fc.integer({ min: 1, max: 4 }),
      )
      .map(([order, repeats, size]) => {
        const groups = Array.from({ length: Math.ceil(order.length / size) }, (_, index) =>
          order.slice(index * size, (index + 1) * size),
        );
        return { all, commits: [...repeats.slice(0, 2), ...groups, ...repeats.slice(2)] };
      }),
  );

  await fc.assert(
    fc.asyncProperty(deliveries, async ({ all, commits }) => {
      await emptyTables(database.db);
      await readNode();
      for (const [index, group] of commits.entries()) await commit(group, index);

      const votes = all.flatMap((job) => job.votes);
      const model = modelOf(votes.filter(([, , choice]) => choice !== 'birds'));
      expect(await storedVotes(database.db)).toEqual(model.votes);
      expect(await storedTallies(database.db)).toEqual(model.tallies);
      expect(await auditTallies(database.db)).toEqual([]);

      const receipts = await storedReceipts(database.db);
      expect(receipts.map(({ seq, votes }) => [seq, votes])).toEqual(
        all.map(({ seq, votes }) => [seq, votes.length]),
      );
      const sum = (of: 'counted' | 'rejected') => receipts.reduce((total, receipt) => total + receipt[of], 0);
      expect(sum('counted')).toBe(model.votes.size);
      expect(sum('rejected')).toBe(votes.filter(([, , choice]) => choice === 'birds').length);
      const [source] = await auditSources(database.db);
      expect(source).toMatchObject({ jobs: all.length, votes: votes.length, missingJobs: 0 });
    }),
    { numRuns: 150 },
  );
});
