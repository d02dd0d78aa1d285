import { sql } from 'kysely';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { describeSchema } from '#db/describe.ts';
import { type MigrationResult, migrate } from '#db/migrate.ts';
import { createDatabase, openTestDb, type TestDatabase } from '#kit/postgres.ts';

const NOTHING: MigrationResult = { applied: [], unknown: [] };

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase('template1');
});
afterAll(() => database.remove());

test('applies each migration once when workers start concurrently', async () => {
  const workers = Array.from({ length: 5 }, () => openTestDb(database.url));
  const applied = await Promise.all(workers.map((db) => migrate(db)));
  await Promise.all(workers.map((db) => db.destroy()));
  expect(applied.flatMap(({ applied }) => applied)).toEqual(['0001_initial', '0002_history']);
  expect(applied.flatMap(({ unknown }) => unknown)).toEqual([]);
});

test('applies nothing to a current schema', async () => {
  expect(await migrate(database.db)).toEqual(NOTHING);
});

test('produces the schema in db/schema.sql', async () => {
  await expect(await describeSchema(database.db)).toMatchFileSnapshot('../../../db/schema.sql');
});

test('names the migrations of a newer release and leaves the schema alone', async () => {
  const newer = await createDatabase();
  try {
    const at = new Date().toISOString();
    await sql`insert into kysely_migration values ('9998_next', ${at}), ('9999_last', ${at})`.execute(
      newer.db,
    );
    expect(await migrate(newer.db)).toEqual({ applied: [], unknown: ['9998_next', '9999_last'] });
  } finally {
    await newer.remove();
  }
});

test('refuses a database of an older version, and says what to do', async () => {
  const old = await createDatabase('template1');
  try {
    await sql`create table batches (source text)`.execute(old.db);
    await expect(migrate(old.db)).rejects.toThrow(/version before 0\.2 .* start with an empty database/);
  } finally {
    await old.remove();
  }
});

test('names a migration that fails and rolls it back', async () => {
  const broken = await createDatabase('template1');
  try {
    await sql`create table votes (x int)`.execute(broken.db);
    await expect(migrate(broken.db)).rejects.toThrow(
      'migration 0001_initial failed: relation "votes" already exists',
    );
    await sql`drop table votes`.execute(broken.db);
    expect((await migrate(broken.db)).applied).toContain('0001_initial');
  } finally {
    await broken.remove();
  }
});
