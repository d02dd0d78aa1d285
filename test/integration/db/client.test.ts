import { sql } from 'kysely';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Db, openDb } from '#db/client.ts';
import { createDatabase } from '#kit/postgres.ts';
import { freePort } from '#kit/process.ts';
import { startProxy, type TestProxy } from '#kit/proxy.ts';
import { until } from '#kit/until.ts';

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

describe('a pool whose server becomes silent and comes back', () => {
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

  const backendPid = async (on: Db): Promise<number> => {
    const { rows } = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(on);
    return rows[0]?.pid ?? 0;
  };

  test('fails the pending query and runs the next one on a new connection', async () => {
    const before = await backendPid(db);
    proxy.silence();
    await expect(backendPid(db)).rejects.toThrow('timeout');
    expect(await backendPid(db)).not.toBe(before);
  });

  test('fails a transaction without waiting for its rollback', async () => {
    const before = await backendPid(db);
    let pid: number | undefined;
    const attempt = db.transaction().execute(async (transaction) => {
      pid = await backendPid(transaction);
      proxy.silence();
      await backendPid(transaction);
    });
    await expect(attempt).rejects.toThrow('timeout');
    expect(pid).toBe(before);
    expect(await backendPid(db)).not.toBe(before);
  });

  test('keeps a connection after an error reported by Postgres', async () => {
    const before = await backendPid(db);
    await expect(sql`select 1 / 0`.execute(db)).rejects.toThrow('division by zero');
    expect(await backendPid(db)).toBe(before);
  });
});

test('a connection that Postgres has terminated is not used again', async () => {
  const { db, remove } = await createDatabase('template1');
  cleanups.push(remove);
  for (let round = 0; round < 20; round++) {
    await expect(sql`select pg_terminate_backend(pg_backend_pid())`.execute(db)).rejects.toThrow(
      'terminating connection',
    );
    expect((await sql`select 1`.execute(db)).rows).toHaveLength(1);
  }
});

test('a connection that breaks while checked out does not end the process', async () => {
  const { db, remove } = await createDatabase('template1');
  cleanups.push(remove);
  await db.connection().execute(async (connection) => {
    const { rows } = await sql<{ pid: number }>`select pg_backend_pid() as pid`.execute(connection);
    const pid = rows[0]?.pid;
    await sql`select pg_terminate_backend(${pid})`.execute(db);
    await until('the connection is closed', async () => {
      const { rows } = await sql`select from pg_stat_activity where pid = ${pid}`.execute(db);
      return rows.length === 0;
    });
    await expect(sql`select 1`.execute(connection)).rejects.toThrow();
  });
  expect((await sql`select 1`.execute(db)).rows).toHaveLength(1);
});
