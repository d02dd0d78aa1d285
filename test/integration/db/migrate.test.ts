import { afterAll, beforeAll, expect, test } from 'vitest';
import { describeSchema } from '#db/describe.ts';
import { migrate } from '#db/migrate.ts';
import { createDatabase, openTestDb, type TestDatabase } from '#kit/postgres.ts';

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase('template1');
});
afterAll(() => database.remove());

test('workers that start together migrate once', async () => {
  const workers = Array.from({ length: 5 }, () => openTestDb(database.url));
  const applied = await Promise.all(workers.map((db) => migrate(db)));
  await Promise.all(workers.map((db) => db.destroy()));
  expect(applied.flat()).toEqual(['0001_initial', '0002_retired_nodes']);
});

test('a second migration changes nothing', async () => {
  expect(await migrate(database.db)).toEqual([]);
});

test('the schema is the one in db/schema.sql', async () => {
  await expect(await describeSchema(database.db)).toMatchFileSnapshot('../../../db/schema.sql');
});
