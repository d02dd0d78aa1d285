import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { auditSources } from '#db/audit.ts';
import { commitBatches } from '#db/commit.ts';
import { recordFences } from '#db/fences.ts';
import { foldReceipts } from '#db/fold.ts';
import {
  finishRetirement,
  insertNode,
  readNodes,
  readRetiringNodes,
  requestRetirement,
  writeOffNode,
} from '#db/nodes.ts';
import { mirrorNodes, readServer } from '#db/sources.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { emptyTables, mirrorEntry } from '#kit/tables.ts';
import { batch, NODE, OTHER_NODE, SOURCE, vote } from '#kit/votes.ts';

const OPERATOR = { who: 'ada', why: 'it moves' };
const HOUR_MS = 3_600_000;

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
});
beforeEach(() => emptyTables(database.db));
afterAll(() => database.remove());

const commit = (seq: number, voters = 1) =>
  commitBatches(
    database.db,
    [
      batch(
        seq,
        Array.from({ length: voters }, (_, voter) => vote(seq * 100 + voter, 'cats', 0)),
        SOURCE,
      ),
    ],
    0,
  );
const actions = () =>
  database.db.selectFrom('operator_actions').select(['who', 'what', 'why']).orderBy('at').execute();
const stateOf = async (id = NODE) => (await readNodes(database.db)).find((node) => node.id === id)?.state;

describe('the nodes', () => {
  test('are all that were ever enrolled, with what is uncounted of each', async () => {
    const { db } = database;
    const ledger = new Map([[SOURCE, { seq: 3, votes: 7 }]]);
    await insertNode(db, OTHER_NODE);
    const node = { id: NODE, name: 'frontend01', ageMs: 5_000, clockSkewMs: -40, ledger };
    await mirrorNodes(db, [node], await readServer(db));
    await commit(1, 2);
    // A receipt above the mirrored number does not make up for a missing one below it.
    await commit(4, 5);
    expect(await readNodes(db)).toEqual([
      expect.objectContaining({
        id: OTHER_NODE,
        name: OTHER_NODE,
        readAt: null,
        clockSkewMs: null,
        state: 'enrolled',
        sources: 0,
        uncountedJobs: 0,
      }),
      {
        id: NODE,
        name: 'frontend01',
        enrolledAt: expect.any(Number) as number,
        readAt: expect.any(Number) as number,
        clockSkewMs: -40,
        state: 'enrolled',
        writtenOffReason: null,
        sources: 1,
        uncountedJobs: 2,
        uncountedVotes: 5,
      },
    ]);
  });

  test('keep the time of the latest read, by the clock of Postgres', async () => {
    const readAt = async () => (await readNodes(database.db))[0]?.readAt ?? 0;
    const entry = { seq: 1, votes: 1 };
    const past = Date.now() - HOUR_MS;
    await mirrorEntry(database.db, SOURCE, entry, past);
    const first = await readAt();
    expect(Math.abs(first - past)).toBeLessThan(HOUR_MS / 2);
    await mirrorEntry(database.db, SOURCE, entry, past - HOUR_MS);
    expect(await readAt()).toBe(first);
    await mirrorEntry(database.db, SOURCE, entry);
    expect(await readAt()).toBeGreaterThan(first + HOUR_MS / 2);
  });
});

describe('a retirement', () => {
  beforeEach(() => mirrorEntry(database.db, SOURCE, { seq: 2, votes: 2 }));
  const finish = () => finishRetirement(database.db, NODE);
  const fence = (seq: number) => recordFences(database.db, new Map([[SOURCE, { seq, votes: seq }]]));
  const foldAll = async () => {
    while ((await foldReceipts(database.db)) > 0);
  };

  test('is recorded with who asked, and why', async () => {
    expect(await requestRetirement(database.db, NODE, OPERATOR)).toBe('done');
    expect(await stateOf()).toBe('retiring');
    expect(await readRetiringNodes(database.db)).toEqual(new Set([NODE]));
    expect(await actions()).toEqual([{ who: 'ada', what: `retire node ${NODE}`, why: 'it moves' }]);
  });

  test('ends only when it was requested and every source is fenced, counted and compared', async () => {
    const isRetiredAfter = async (step: () => Promise<unknown>): Promise<boolean> => {
      await step();
      return finish();
    };
    expect(await finish()).toBe(false);
    expect(await isRetiredAfter(() => requestRetirement(database.db, NODE, OPERATOR))).toBe(false);
    expect(await isRetiredAfter(() => fence(2))).toBe(false);
    expect(await isRetiredAfter(() => commit(1))).toBe(false);
    expect(await isRetiredAfter(() => commit(2))).toBe(false);
    expect(await isRetiredAfter(foldAll)).toBe(true);
    expect(await stateOf()).toBe('retired');
    expect(await readRetiringNodes(database.db)).toEqual(new Set());
    expect(await auditSources(database.db)).toMatchObject([{ isRetired: true, fencedSeq: 2, jobs: 2 }]);
  });

  test('does not end while receipts and ledger differ in votes', async () => {
    await requestRetirement(database.db, NODE, OPERATOR);
    await fence(2);
    await commit(1);
    await commit(2, 5);
    await foldAll();
    expect(await auditSources(database.db)).toMatchObject([{ unexplainedVotes: -4 }]);
    expect(await finish()).toBe(false);
  });
});

describe('a write-off', () => {
  beforeEach(() => mirrorEntry(database.db, SOURCE, { seq: 2, votes: 2 }, Date.now() - HOUR_MS));

  test('is recorded with who asked, and why, and shown', async () => {
    expect(await writeOffNode(database.db, NODE, OPERATOR)).toBe('done');
    expect(await readNodes(database.db)).toMatchObject([
      { state: 'written off', writtenOffReason: 'it moves' },
    ]);
    expect(await auditSources(database.db)).toMatchObject([{ isWrittenOff: true }]);
    expect(await actions()).toEqual([{ who: 'ada', what: `write off node ${NODE}`, why: 'it moves' }]);
  });

  test('is revoked by a later reading of the node, not by an earlier one', async () => {
    await writeOffNode(database.db, NODE, OPERATOR);
    await mirrorEntry(database.db, SOURCE, { seq: 2, votes: 2 }, Date.now() - HOUR_MS / 2);
    expect(await stateOf()).toBe('written off');
    await mirrorEntry(database.db, SOURCE, { seq: 2, votes: 2 }, Date.now() + HOUR_MS);
    expect(await readNodes(database.db)).toMatchObject([{ state: 'enrolled', writtenOffReason: null }]);
    expect(await auditSources(database.db)).toMatchObject([{ isWrittenOff: false }]);
  });
});

describe.each([
  ['a retirement', requestRetirement],
  ['a write-off', writeOffNode],
])('%s', (_what, request) => {
  const ask = (node: string) => request(database.db, node, OPERATOR);

  test('finds a node by its name, if only one in use has it', async () => {
    await mirrorEntry(database.db, SOURCE, { seq: 1, votes: 1 });
    expect(await ask('node')).toBe('done');
    await mirrorEntry(database.db, `node-${OTHER_NODE}.t0-1`, { seq: 1, votes: 1 });
    expect(await ask('node')).toBe('ambiguous');
    expect(await ask(OTHER_NODE)).toBe('done');
    await database.db.updateTable('nodes').set({ retired_at: new Date() }).where('id', '=', NODE).execute();
    expect(await ask('node')).toBe('done');
    expect(await actions()).toHaveLength(3);
  });

  test('of a node that is unknown or retired changes and records nothing', async () => {
    await mirrorEntry(database.db, SOURCE, { seq: 1, votes: 1 });
    await database.db.updateTable('nodes').set({ retired_at: new Date() }).execute();
    for (const node of [NODE, 'node', 'nowhere', "x'; drop table votes; --"]) {
      expect(await ask(node)).toBe('unknown');
    }
    expect(await stateOf()).toBe('retired');
    expect(await actions()).toEqual([]);
  });
});
