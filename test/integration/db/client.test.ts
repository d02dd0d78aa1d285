import { sql } from 'kysely';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Db, openDb } from '#db/client.ts';
import { createDatabase } from '#kit/postgres.ts';
import { freePort } from '#kit/process.ts';
import { startProxy, type TestProxy } from '#kit/proxy.ts';

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

describe('when the machine of Postgres vanishes without a word and is back', () => {
  let proxy: TestProxy;
  let db: Db;
  beforeEach(async () => {
    const database = await createDatabase('template1');
    cleanups.push(database.remove);
    const url = new URL(database.url);
    const port = await freePort();
    proxy = await startProxy({ port }, { port: Number(url.port) });
    cleanups.push(proxy.close);
    url.port = String(port);
    db = openDb({
      url: url.href,
      connectionsMax: 1,
      statementMsMax: 200,
      name: 'turnout-test',
      onIdleError: () => {},
    });
    cleanups.push(() => db.destroy());
  });

  const ask = async (on: Db): Promise<number> => {
    const { rows } = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(on);
    return rows[0]?.pid ?? 0;
  };

  test('the first query fails, and the next has a connection of its own', async () => {
    const before = await ask(db);
    proxy.silence();
    await expect(ask(db)).rejects.toThrow('timeout');
    expect(await ask(db)).not.toBe(before);
  });

  test('so does a transaction, without waiting for its rollback', async () => {
    const before = await ask(db);
    let pid: number | undefined;
    const attempt = db.transaction().execute(async (transaction) => {
      pid = await ask(transaction);
      proxy.silence();
      await ask(transaction);
    });
    await expect(attempt).rejects.toThrow('timeout');
    expect(pid).toBe(before);
    expect(await ask(db)).not.toBe(before);
  });

  test('an error that Postgres answers with costs no connection', async () => {
    const before = await ask(db);
    await expect(sql`select 1 / 0`.execute(db)).rejects.toThrow('division by zero');
    expect(await ask(db)).toBe(before);
  });
});
