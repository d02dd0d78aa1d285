import { Kysely, PostgresDialect, type PostgresPool, type PostgresPoolClient } from 'kysely';
import pg from 'pg';
import type { Database } from './schema.ts';

const CONNECT_TIMEOUT_MS = 3_000;
const IDLE_TIMEOUT_MS = 30_000;
const INT8 = 20;

export type Db = Kysely<Database>;

export interface DbOptions {
  /** A `postgres://` URL. */
  readonly url: string;
  readonly connectionsMax: number;
  /** No statement may run longer; Postgres ends it, and the client gives up soon after. */
  readonly statementMsMax: number;
  /** Shown in `pg_stat_activity`. */
  readonly name: string;
  /** Hears of connections that break while idle; the pool replaces them. */
  readonly onIdleError: (error: Error) => void;
}

/** Opens a pool of connections, lazily: nothing is connected before the first query. Close it with `db.destroy()`. */
export function openDb({ url, connectionsMax, statementMsMax, name, onIdleError }: DbOptions): Db {
  const pool = new pg.Pool({
    connectionString: url,
    max: connectionsMax,
    application_name: name,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    idleTimeoutMillis: IDLE_TIMEOUT_MS,
    statement_timeout: statementMsMax,
    // The server may be unable to tell us that it gave up: it may be frozen, or the network may be gone.
    query_timeout: statementMsMax + 1_000,
    keepAlive: true,
    types: { getTypeParser: parserOf },
  });
  pool.on('error', onIdleError);
  // A connection may also break while somebody holds it and asks nothing; the next query on it fails. Without a
  // listener that event would end the process.
  pool.on('connect', (client) => client.on('error', () => {}));
  return new Kysely<Database>({ dialect: new PostgresDialect({ pool: leavingSilence(pool) }) });
}

/**
 * A pool that never lends a connection again on which an answer did not come. The driver would, and whatever is asked
 * next would wait behind the old question until the kernel gives the connection up, which takes a quarter of an hour
 * when the other machine has lost its power.
 */
function leavingSilence(pool: pg.Pool): PostgresPool {
  return {
    options: pool.options,
    connect: async () => {
      const client = await pool.connect();
      let silence: Error | undefined;
      const query = async (text: string, values: readonly unknown[]): Promise<pg.QueryResult> => {
        // A transaction that failed wants to be rolled back; its end rolls it back as well.
        if (silence) throw silence;
        try {
          return await client.query(text, [...values]);
        } catch (error) {
          // An error of Postgres is an answer too.
          if (!(error instanceof pg.DatabaseError)) silence = error as Error;
          throw error;
        }
      };
      return {
        // Cursors, which Kysely could ask for as well, are for streams, of which we have none.
        query: query as unknown as PostgresPoolClient['query'],
        release: (isDiscarded = false) => client.release(isDiscarded || silence !== undefined),
      };
    },
    end: () => pool.end(),
  };
}

const parserOf: typeof pg.types.getTypeParser = (oid: number, format?: unknown) =>
  oid === INT8 ? Number : pg.types.getTypeParser(oid, format as 'text');
