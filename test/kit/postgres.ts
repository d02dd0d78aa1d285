import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { inject } from 'vitest';
import { type Db, openDb } from '#db/client.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** Superuser URL of the Postgres that all test files share. */
    postgresUrl: string;
    /** Name of the template database, which has the schema and the default polls. */
    templateDatabase: string;
  }
}

/** A database of one test file. */
export interface TestDatabase {
  readonly url: string;
  readonly db: Db;
  remove(): Promise<void>;
}

/**
 * Creates a database for one test file.
 *
 * @param template the database to clone; `template1` gives one without tables
 * @param serverUrl superuser URL of the server; by default the one that all test files share
 */
export async function createDatabase(
  template = inject('templateDatabase'),
  serverUrl = inject('postgresUrl'),
): Promise<TestDatabase> {
  const name = `test_${randomBytes(6).toString('hex')}`;
  await executeAt(serverUrl, `create database ${name} template ${template}`);
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  const db = openTestDb(url.href);
  return {
    url: url.href,
    db,
    remove: async () => {
      await db.destroy();
      await executeAt(serverUrl, `drop database ${name} with (force)`);
    },
  };
}

/** Opens a database with limits that suit tests. Close it with `db.destroy()`. */
export function openTestDb(url: string): Db {
  return openDb({
    url,
    connectionsMax: 4,
    statementMsMax: 20_000,
    name: 'turnout-test',
    onIdleError: () => {},
  });
}

/** Runs a statement on a connection of its own. */
export async function executeAt(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}
