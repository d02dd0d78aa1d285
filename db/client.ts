import { Kysely, PostgresDialect, type PostgresPool, type PostgresPoolClient } from 'kysely';
import pg from 'pg';
import { assertDurable, DURABILITY_QUERY, SESSION_CHECK_INTERVAL_MS } from './durability.ts';
import type { Database } from './schema.ts';

const CONNECT_TIMEOUT_MS = 3_000;
const IDLE_TIMEOUT_MS = 30_000;
const INT8 = 20;

export type Db = Kysely<Database>;

export interface DbOptions {
  /** A `postgres://` URL. */
  readonly url: string;
  readonly connectionsMax: number;
  /** Time limit of a statement, enforced by Postgres; the client stops waiting one second later. */
  readonly statementMsMax: number;
  /** Shown in `pg_stat_activity`. */
  readonly name: string;
  /** Whether every query fails with an `UnsafePostgresError` while Postgres could lose an acknowledged commit. */
  readonly requiresDurability?: boolean;
  /** Called when an idle connection breaks; the pool replaces it. */
  readonly onIdleError: (error: Error) => void;
}

/** Returns a connection pool that connects on the first query. Close it with `db.destroy()`. */
export function openDb(options: DbOptions): Db {
  const { url, connectionsMax, statementMsMax, name, onIdleError, requiresDurability = false } = options;
  const pool = new pg.Pool({
    connectionString: url,
    max: connectionsMax,
    application_name: name,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    idleTimeoutMillis: IDLE_TIMEOUT_MS,
    statement_timeout: statementMsMax,
    // For a server that cannot report the time-out itself: frozen, or disconnected from the network.
    query_timeout: statementMsMax + 1_000,
    keepAlive: true,
    types: { getTypeParser: parserOf },
  });
  pool.on('error', onIdleError);
  // A connection may also break while it is checked out and runs no query. Its next query fails; without a listener
  // the event would end the process.
  pool.on('connect', (client) => client.on('error', () => {}));
  return new Kysely<Database>({
    dialect: new PostgresDialect({ pool: guardSessions(pool, requiresDurability) }),
  });
}

/**
 * Wraps a pool so that it discards a connection that is broken, which the driver would reuse:
 *
 * - after a query without a reply. The next query would wait behind it until the kernel times out the connection: about 15
 *   minutes if the server's machine lost power;
 * - after an error that ends the session. The next query would fail before the driver sees the connection close;
 * - if its session is not durable, where that is required. A session may keep its settings after the operator corrected those
 *   of its role or database. Each session is checked before its first use, and again before a use over 1 s later.
 */
function guardSessions(pool: pg.Pool, requiresDurability: boolean): PostgresPool {
  const checkedAt = new WeakMap<pg.PoolClient, number>();
  const check = async (client: pg.PoolClient): Promise<void> => {
    const now = performance.now();
    if (now - (checkedAt.get(client) ?? -Infinity) < SESSION_CHECK_INTERVAL_MS) return;
    try {
      const { rows } = await client.query(DURABILITY_QUERY);
      assertDurable(rows[0]);
      checkedAt.set(client, now);
    } catch (error) {
      client.release(true);
      throw error;
    }
  };
  return {
    options: pool.options,
    connect: async () => {
      const client = await pool.connect();
      if (requiresDurability) await check(client);
      let fault: Error | undefined;
      const query = async (text: string, values: readonly unknown[]): Promise<pg.QueryResult> => {
        // Fail the rollback of a transaction at once: closing the connection rolls back as well.
        if (fault) throw fault;
        try {
          return await client.query(text, [...values]);
        } catch (error) {
          if (!keepsSession(error)) fault = error as Error;
          throw error;
        }
      };
      return {
        // The type also covers cursors, which Kysely uses for streams only; there are none here.
        query: query as unknown as PostgresPoolClient['query'],
        release: (isDiscarded = false) => client.release(isDiscarded || fault !== undefined),
      };
    },
    end: () => pool.end(),
  };
}

/** Returns whether an error is a reply after which the session continues; `FATAL` and `PANIC` end it. */
function keepsSession(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.severity === 'ERROR';
}

const parserOf: typeof pg.types.getTypeParser = (oid: number, format?: unknown) =>
  oid === INT8 ? Number : pg.types.getTypeParser(oid, format as 'text');
