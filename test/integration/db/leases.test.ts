import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { acquireLease, releaseLease } from '#db/leases.ts';
import { createDatabase, openTestDb, type TestDatabase } from '#kit/postgres.ts';

const NAME = 'test';

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase();
});
afterAll(() => database.remove());
beforeEach(async () => {
  await database.db.deleteFrom('leases').execute();
});

const lease = (holder: string, durationMs = 60_000) => ({ name: NAME, holder, durationMs });
const acquire = (holder: string, durationMs?: number) => acquireLease(database.db, lease(holder, durationMs));
const expiry = async () =>
  (await database.db.selectFrom('leases').select('expires_at').executeTakeFirstOrThrow()).expires_at;

describe('a lease', () => {
  test('is acquired by one process, which alone can renew it', async () => {
    expect(await acquire('a')).toBe(true);
    const before = await expiry();
    expect(await acquire('b')).toBe(false);
    expect(await expiry()).toEqual(before);
    expect(await acquire('a')).toBe(true);
    expect((await expiry()).getTime()).toBeGreaterThan(before.getTime());
  });

  test('is taken over by another process once it has expired', async () => {
    expect(await acquire('a', 0)).toBe(true);
    expect(await acquire('b')).toBe(true);
    expect(await acquire('a')).toBe(false);
  });

  test('is free once its holder has released it', async () => {
    expect(await acquire('a')).toBe(true);
    await releaseLease(database.db, lease('b'));
    expect(await acquire('b')).toBe(false);
    await releaseLease(database.db, lease('a'));
    expect(await acquire('b')).toBe(true);
  });

  test('does not affect leases of other names', async () => {
    expect(await acquire('a')).toBe(true);
    expect(await acquireLease(database.db, { ...lease('b'), name: 'other' })).toBe(true);
  });

  test.each([
    ['free', async () => {}],
    ['expired', async () => void (await acquire('previous', 0))],
  ])('that is %s goes to one of several concurrent processes', async (_, prepare) => {
    const processes = Array.from({ length: 4 }, () => openTestDb(database.url));
    try {
      for (let round = 0; round < 10; round += 1) {
        await database.db.deleteFrom('leases').execute();
        await prepare();
        const acquired = await Promise.all(
          processes.flatMap((db, index) =>
            [1, 2, 3].map((number) => acquireLease(db, lease(`${index}-${number}`))),
          ),
        );
        expect(acquired.filter(Boolean)).toHaveLength(1);
      }
    } finally {
      await Promise.all(processes.map((db) => db.destroy()));
    }
  });
});
