import type { KyselyPlugin } from 'kysely';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Db } from '#db/client.ts';
import type { LedgerEntry } from '#job';
import { recordLog } from '#kit/log.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { LedgerMirror } from '#workers/mirror.ts';

const NODES = 200;

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.remove());
beforeEach(async () => {
  await database.db.deleteFrom('leases').execute();
  await database.db.deleteFrom('ledgers').execute();
});

/** Returns a database that counts the statements, and those that write ledgers. */
function countStatements(db: Db): { db: Db; all: number; upserts: number } {
  const counted = { db, all: 0, upserts: 0 };
  const plugin: KyselyPlugin = {
    transformQuery: ({ node }) => {
      counted.all += 1;
      if (JSON.stringify(node).includes('insert into ledgers')) counted.upserts += 1;
      return node;
    },
    transformResult: async ({ result }) => result,
  };
  counted.db = db.withPlugin(plugin);
  return counted;
}

const sourceOf = (node: number) => `node${node}.t0-1`;

/** Records a ledger of one source for each of the first `nodes` nodes. */
function recordNodes(mirror: LedgerMirror, nodes: number, seq: number, readAt: number): void {
  for (let node = 0; node < nodes; node += 1) {
    const ledger = new Map<string, LedgerEntry>([[sourceOf(node), { seq, votes: 2 * seq }]]);
    mirror.record(`address${node}`, ledger, readAt);
  }
}

async function stored() {
  const rows = await database.db.selectFrom('ledgers').selectAll().execute();
  return new Map(rows.map((row) => [row.source, row]));
}

test('stores the ledgers of 200 nodes in one statement a round', async () => {
  const counted = countStatements(database.db);
  const { log } = recordLog();
  const mirror = new LedgerMirror({ db: counted.db, log });
  const from = Date.now() - 60_000;
  for (let round = 1; round <= 3; round += 1) {
    recordNodes(mirror, NODES, round, from + round);
    await mirror.round();
    expect(counted).toMatchObject({ upserts: round, all: 2 * round });
    const rows = await stored();
    expect(rows.size).toBe(NODES);
    for (const row of rows.values()) {
      expect(row).toMatchObject({ accepted_seq: round, accepted_votes: 2 * round });
      expect(row.observed_at).toEqual(new Date(from + round));
    }
  }
  // Without a new read there is nothing to store.
  await mirror.round();
  expect(counted).toMatchObject({ upserts: 3, all: 7 });
});

test('stores changed entries at once and unchanged ones every 10 s, each with the time of its own read', async () => {
  const mirror = new LedgerMirror({ db: database.db, log: recordLog().log });
  const from = Date.now() - 60_000;
  recordNodes(mirror, 3, 1, from);
  await mirror.round();
  recordNodes(mirror, 3, 1, from + 9_000);
  recordNodes(mirror, 1, 2, from + 9_500);
  await mirror.round();
  const observed = async () =>
    [...(await stored()).values()].map(({ observed_at }) => observed_at.getTime() - from).toSorted();
  expect(await observed()).toEqual([0, 0, 9_500]);
  recordNodes(mirror, 2, 1, from + 10_000);
  await mirror.round();
  expect(await observed()).toEqual([0, 10_000, 10_000]);
});

test('stores a source once that two addresses report', async () => {
  const { log, lines } = recordLog();
  const mirror = new LedgerMirror({ db: database.db, log });
  const from = Date.now() - 60_000;
  mirror.record('new', new Map([[sourceOf(1), { seq: 3, votes: 30 }]]), from);
  mirror.record('old', new Map([[sourceOf(1), { seq: 2, votes: 20 }]]), from + 1);
  await mirror.round();
  expect(lines.map(({ message }) => message)).toEqual(['lease acquired']);
  expect((await stored()).get(sourceOf(1))).toMatchObject({
    accepted_seq: 3,
    accepted_votes: 30,
    observed_at: new Date(from + 1),
  });
});

test('stores what it failed to store in the next round', async () => {
  let isDown = true;
  const db = database.db.withPlugin({
    transformQuery: ({ node }) => {
      if (isDown && JSON.stringify(node).includes('insert into ledgers')) throw new Error('down');
      return node;
    },
    transformResult: async ({ result }) => result,
  });
  const { log, lines } = recordLog();
  const mirror = new LedgerMirror({ db, log });
  recordNodes(mirror, 1, 1, Date.now());
  await mirror.round();
  expect(lines.at(-1)).toMatchObject({ level: 'warn', message: 'ledgers not mirrored' });
  expect((await stored()).size).toBe(0);
  isDown = false;
  await mirror.round();
  expect((await stored()).size).toBe(1);
});

test('stands by while another process holds the lease, and takes over with all it has read', async () => {
  const { log, lines } = recordLog();
  const holder = new LedgerMirror({ db: database.db, log });
  await holder.round();
  const counted = countStatements(database.db);
  const standby = new LedgerMirror({ db: counted.db, log });
  recordNodes(standby, 2, 1, Date.now());
  await standby.round();
  expect(counted).toMatchObject({ upserts: 0, all: 1 });
  await holder.stop();
  await standby.round();
  expect((await stored()).size).toBe(2);
  expect(lines).toMatchObject([
    { level: 'info', message: 'lease acquired', lease: 'ledger-mirror' },
    { level: 'info', message: 'lease acquired', lease: 'ledger-mirror' },
  ]);
});

test('stops storing when it has lost the lease', async () => {
  const { log, lines } = recordLog();
  const mirror = new LedgerMirror({ db: database.db, log });
  await mirror.round();
  await database.db.updateTable('leases').set({ holder: 'another' }).execute();
  recordNodes(mirror, 1, 1, Date.now());
  await mirror.round();
  expect((await stored()).size).toBe(0);
  expect(lines.map(({ message }) => message)).toEqual(['lease acquired', 'lease lost']);
});
