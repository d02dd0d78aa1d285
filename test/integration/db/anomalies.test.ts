import { sql } from 'kysely';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type AnomalyReport, collectAnomalies } from '#audit/anomalies.ts';
import { readMintBursts, readVoteTimes } from '#db/anomalies.ts';
import { commitBatches } from '#db/commit.ts';
import { createDatabase, openTestDb, type TestDatabase } from '#kit/postgres.ts';
import { emptyTables, mirrorEntry } from '#kit/tables.ts';
import { batch, NODE, OTHER_NODE, OTHER_SOURCE, POLL, SOURCE, vote } from '#kit/votes.ts';
import { DeadlineError } from '#runtime/deadline.ts';

const MS_MAX = 10_000;
/** A whole minute. */
const NOON = Date.UTC(2027, 1, 7, 12);
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
/** Two ids of one moment. A UUIDv1 has a time too, but Turnout mints none. */
const UUIDV1 = [1, 2].map((node) => `c232ab00-9414-11ec-b3c8-00000000000${node}`);

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
});
beforeEach(() => emptyTables(database.db));
afterAll(() => database.remove());

interface Row {
  readonly castAt: number;
  /** `undefined` for a UUIDv8. */
  readonly mintedAt?: number;
  readonly pollNo?: number;
  readonly voter?: string;
}

let serial = 0;

function idOf(mintedAt: number | undefined): string {
  serial += 1;
  const tail = `8000-${serial.toString(16).padStart(12, '0')}`;
  // The bits before the version are not a time in a UUIDv8; here they look like one on purpose.
  const time = (mintedAt ?? NOON).toString(16).padStart(12, '0');
  return `${time.slice(0, 8)}-${time.slice(8)}-${mintedAt === undefined ? 8 : 7}000-${tail}`;
}

/** Stores votes as commits do, at these milliseconds. */
async function store(rows: readonly Row[]): Promise<void> {
  await database.db
    .insertInto('votes')
    .values(
      rows.map(({ castAt, mintedAt, pollNo = 1, voter = idOf(mintedAt) }) => ({
        cast_us: castAt * 1_000,
        voter_id: voter,
        poll_no: pollNo,
        choice_no: 1,
      })),
    )
    .execute();
}

const several = (number: number, row: Row): Row[] => Array.from({ length: number }, () => row);
const times = () => readVoteTimes(database.db, 1, MS_MAX);
const bursts = () => readMintBursts(database.db, 1, MS_MAX);
const report = (poll?: string): Promise<AnomalyReport> =>
  collectAnomalies({ db: database.db, poll, msMax: MS_MAX });

describe('the times of votes', () => {
  test('are classed by the time since the mint, with each threshold in the upper class', async () => {
    const delays = [
      -1,
      0,
      999,
      1_000,
      9_999,
      10_000,
      59_999,
      MINUTE,
      10 * MINUTE,
      HOUR,
      24 * HOUR - 1,
      24 * HOUR,
    ];
    await store(delays.map((delay) => ({ mintedAt: NOON, castAt: NOON + delay })));
    expect(await times()).toMatchObject({
      votes: 12,
      withoutMintTime: 0,
      delays: [1, 2, 2, 2, 1, 1, 2, 1],
    });
  });

  test('leave out and count voters whose id is no UUIDv7', async () => {
    await store([
      ...several(3, { castAt: NOON }),
      ...UUIDV1.map((voter) => ({ castAt: NOON, voter })),
      { castAt: NOON, mintedAt: NOON - 5 * MINUTE },
    ]);
    expect(await times()).toMatchObject({
      votes: 6,
      withoutMintTime: 5,
      delays: [0, 0, 0, 0, 1, 0, 0, 0],
    });
  });

  test('are counted by minute, and the minutes listed in order of time', async () => {
    await store([
      ...several(2, { castAt: NOON + 59_999, mintedAt: NOON }),
      ...several(7, { castAt: NOON + MINUTE, mintedAt: NOON }),
      { castAt: NOON - 1, mintedAt: NOON },
    ]);
    expect(await times()).toMatchObject({
      minutes: 3,
      medianMinute: 2,
      busiest: [
        { at: NOON - MINUTE, votes: 1 },
        { at: NOON, votes: 2 },
        { at: NOON + MINUTE, votes: 7 },
      ],
    });
  });

  test('list the 20 busiest minutes only', async () => {
    await store(
      Array.from({ length: 25 }, (_, i) =>
        several(i < 5 ? 1 : 2, { castAt: NOON + i * MINUTE, mintedAt: NOON }),
      ).flat(),
    );
    const { minutes, busiest } = await times();
    expect(minutes).toBe(25);
    expect(busiest.map(({ votes }) => votes)).toEqual(Array(20).fill(2));
    expect(busiest[0]?.at).toBe(NOON + 5 * MINUTE);
  });

  test('are those of one poll', async () => {
    await store([
      { castAt: NOON, mintedAt: NOON },
      { castAt: NOON, mintedAt: NOON, pollNo: 2 },
    ]);
    expect((await times()).votes).toBe(1);
  });
});

describe('the bursts', () => {
  test('are the milliseconds in which several voters were minted, by size', async () => {
    const at = (millisecond: number, number: number) =>
      several(number, { castAt: NOON + HOUR, mintedAt: NOON + millisecond });
    await store([
      ...at(0, 1),
      ...at(1, 2),
      ...at(2, 9),
      ...at(3, 1),
      ...at(4, 10),
      ...at(9, 120),
      ...at(11, 1),
    ]);
    expect(await bursts()).toEqual({
      sizes: [
        { milliseconds: 2, voters: 11 },
        { milliseconds: 1, voters: 10 },
        { milliseconds: 1, voters: 120 },
        { milliseconds: 0, voters: 0 },
      ],
      largest: [
        { at: NOON + 9, voters: 120 },
        { at: NOON + 4, voters: 10 },
        { at: NOON + 2, voters: 9 },
        { at: NOON + 1, voters: 2 },
      ],
    });
  });

  test('contain no voter of another poll and no id without a mint time between those of a millisecond', async () => {
    await store([
      { castAt: NOON, mintedAt: NOON },
      ...several(5, { castAt: NOON }),
      ...UUIDV1.map((voter) => ({ castAt: NOON, voter })),
      { castAt: NOON, mintedAt: NOON },
      ...several(3, { castAt: NOON, mintedAt: NOON, pollNo: 2 }),
    ]);
    expect((await bursts()).largest).toEqual([{ at: NOON, voters: 2 }]);
  });

  test('are read in the order of the primary key, without a sort', async () => {
    await store(several(3_000, { castAt: NOON, mintedAt: NOON }));
    await sql`analyze votes`.execute(database.db);
    const plan = await database.db.transaction().execute(async (transaction) => {
      await sql`set local enable_sort = off`.execute(transaction);
      const { rows } = await sql<{ 'QUERY PLAN': string }>`
        explain select * from mint_bursts where poll_no = 1
      `.execute(transaction);
      return rows.map((row) => row['QUERY PLAN']).join('\n');
    });
    expect(plan).toContain('using votes_pkey');
    expect(plan).not.toContain('Sort');
  });
});

describe('the report', () => {
  test('of polls without votes is empty', async () => {
    expect(await report()).toMatchObject({
      polls: [
        {
          poll: 'cats-vs-dogs',
          times: { votes: 0, withoutMintTime: 0, minutes: 0, medianMinute: null, busiest: [] },
          bursts: { largest: [] },
          onePollVoters: 0,
        },
        { poll: 'best-snack' },
      ],
      totals: { votes: 0, counted: 0 },
      nodes: [],
    });
  });

  test('of one vote has that vote', async () => {
    await store([{ castAt: NOON + 5_000, mintedAt: NOON }]);
    const [poll] = (await report()).polls;
    expect(poll).toMatchObject({
      times: { votes: 1, minutes: 1, medianMinute: 1, busiest: [{ at: NOON, votes: 1 }] },
      bursts: { largest: [] },
      onePollVoters: 1,
    });
  });

  test('counts the voters who voted in one poll only', async () => {
    const both = idOf(NOON);
    await store([
      { castAt: NOON, voter: both },
      { castAt: NOON, voter: both, pollNo: 2 },
      ...several(2, { castAt: NOON }),
      { castAt: NOON, pollNo: 2 },
    ]);
    expect((await report()).polls.map(({ onePollVoters }) => onePollVoters)).toEqual([2, 1]);
    expect((await report('best-snack')).polls).toMatchObject([{ poll: 'best-snack', onePollVoters: 1 }]);
    expect((await report('nothing')).polls).toEqual([]);
  });

  test('sums outcomes over all sources, and accepted votes by node', async () => {
    await mirrorEntry(database.db, SOURCE, { seq: 1, votes: 2 });
    await mirrorEntry(database.db, OTHER_SOURCE, { seq: 2, votes: 6 });
    await commitBatches(database.db, [batch(1, [vote(1, 'cats', 0), vote(2, 'cats', 0)], SOURCE)], 0);
    await commitBatches(database.db, [batch(1, [vote(1, 'dogs', 5), vote(2, 'birds', 9)], OTHER_SOURCE)], 0);
    const { totals, nodes } = await report();
    expect(totals).toEqual({ votes: 4, counted: 2, changed: 1, superseded: 0, rejected: 1 });
    expect(nodes).toEqual([
      { id: NODE, name: 'node', accepted: 2 },
      { id: OTHER_NODE, name: 'other', accepted: 6 },
    ]);
  });

  test('ends at its time limit, and the connection can be used again', async () => {
    const blocker = openTestDb(database.url);
    const [locked, released] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const blocked = blocker.transaction().execute(async (transaction) => {
      await sql`lock table votes in access exclusive mode`.execute(transaction);
      locked.resolve();
      await released.promise;
    });
    try {
      await Promise.race([locked.promise, blocked]);
      const startedAt = performance.now();
      await expect(collectAnomalies({ db: database.db, msMax: 200 })).rejects.toThrow(DeadlineError);
      // The connection has a limit of 20 s.
      expect(performance.now() - startedAt).toBeLessThan(10_000);
    } finally {
      released.resolve();
      await blocked;
      await blocker.destroy();
    }
    expect((await report(POLL)).polls).toHaveLength(1);
  });

  test('is read in transactions that cannot write', async () => {
    await sql`create table noted (at timestamptz)`.execute(database.db);
    await sql`
      create function note() returns smallint language sql volatile as
      $$insert into noted values (now()) returning 1::smallint$$
    `.execute(database.db);
    await sql`alter view vote_times rename to real_times`.execute(database.db);
    try {
      await sql`
        create view vote_times as select note() as poll_no, 0::bigint as minute, 0 as delay_class, 1::bigint as votes
      `.execute(database.db);
      await expect(times()).rejects.toThrow('read-only transaction');
    } finally {
      await sql`drop view if exists vote_times`.execute(database.db);
      await sql`alter view real_times rename to vote_times`.execute(database.db);
    }
  });
});
