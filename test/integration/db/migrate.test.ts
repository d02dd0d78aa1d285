import { afterAll, beforeAll, expect, test } from 'vitest';
import { describeSchema } from '#db/describe.ts';
import { migrate } from '#db/migrate.ts';
import { createDatabase, openTestDb, type TestDatabase } from '#kit/postgres.ts';

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase('template1');
});
afterAll(() => database.remove());

test('applies each migration once when workers start concurrently', async () => {
  const workers = Array.from({ length: 5 }, () => openTestDb(database.url));
  const applied = await Promise.all(workers.map((db) => migrate(db)));
  await Promise.all(workers.map((db) => db.destroy()));
  expect(applied.flat()).toEqual(['0001_initial', '0002_retired_nodes']);
});

test('applies nothing to a current schema', async () => {
  expect(await migrate(database.db)).toEqual([]);
});

test('produces the schema in db/schema.sql', async () => {
  await expect(await describeSchema(database.db)).toMatchFileSnapshot('../../../db/schema.sql');
});
