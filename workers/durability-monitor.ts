import { sql } from 'kysely';
import type { Db } from '#db/client.ts';
import { SESSION_CHECK_INTERVAL_MS, UnsafePostgresError } from '#db/durability.ts';
import type { ProcessParts } from '#runtime/process.ts';
import type { Readiness } from '#runtime/readiness.ts';

const CHECK_INTERVAL_MS = 5_000;

if (CHECK_INTERVAL_MS <= SESSION_CHECK_INTERVAL_MS) {
  throw new RangeError('each query of the monitor must check its session');
}

/**
 * Reports every 5 s whether Postgres is durable, also while there is nothing to commit.
 *
 * @param db opened with `requiresDurability`, which refuses unsafe sessions and so protects the commits by itself
 */
export function monitorDurability(db: Db, readiness: Readiness, { log, shutdown }: ProcessParts): void {
  let isSafe = true;
  const check = async (): Promise<void> => {
    const fault = await findFault(db);
    if (fault) readiness.notReady('durability', fault);
    else readiness.ready('durability');
    if (fault && isSafe) log.warn('commits paused', { reason: fault });
    if (!fault && !isSafe) log.info('commits resumed');
    isSafe = !fault;
  };
  // A check that fails says nothing about durability. The commits report that Postgres is down.
  const timer = setInterval(() => void check().catch(() => undefined), CHECK_INTERVAL_MS);
  shutdown.defer('stop the durability monitor', () => clearInterval(timer));
}

/**
 * Returns why a session is not durable; `undefined` if it is.
 *
 * @throws any other error of Postgres
 */
async function findFault(db: Db): Promise<string | undefined> {
  try {
    await sql`select 1`.execute(db);
    return undefined;
  } catch (error) {
    if (error instanceof UnsafePostgresError) return error.message;
    throw error;
  }
}
