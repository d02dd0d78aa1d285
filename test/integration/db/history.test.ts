import { sql } from 'kysely';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { HISTORY_SECONDS, readHistory, recordHistory } from '#db/history.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { mirrorEntry } from '#kit/tables.ts';
import { SOURCE } from '#kit/votes.ts';

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.remove());

/** Makes all points older. */
const age = (seconds: number) =>
  sql`update history set at = at - ${seconds} * interval '1 second'`.execute(database.db);

test('the history has a point of each interval, and forgets a day later', async () => {
  const { db } = database;
  expect(await readHistory(db)).toEqual([]);
  await recordHistory(db);
  await age(10 * HISTORY_SECONDS);
  await mirrorEntry(db, SOURCE, { seq: 1, votes: 5 });
  await recordHistory(db);
  const points = await readHistory(db);
  expect(points.map(({ accepted }) => accepted)).toEqual([0, 5]);
  expect(points.every(({ at }) => at % (HISTORY_SECONDS * 1_000) === 0)).toBe(true);

  await age(24 * 60 * 60 - 5 * HISTORY_SECONDS);
  await recordHistory(db);
  expect((await readHistory(db)).map(({ accepted }) => accepted)).toEqual([5, 5]);
});

test('workers that record at the same time do not fail', async () => {
  const { db } = database;
  await db.deleteFrom('history').execute();
  await Promise.all(Array.from({ length: 4 }, () => recordHistory(db)));
  // The next interval may have begun in between.
  expect([1, 2]).toContain((await readHistory(db)).length);
});
