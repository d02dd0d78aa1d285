import { sql } from 'kysely';
import type { Db } from './client.ts';

/** A lease that one process at a time holds. */
export interface Lease {
  readonly name: string;
  /** Identifies the process. */
  readonly holder: string;
  readonly durationMs: number;
}

/**
 * Takes a free lease, or renews it for its holder. Unlike a session lock it expires, so a holder that is frozen or cut off
 * does not keep it. A holder may act for a moment after its lease has expired; its work must tolerate that.
 *
 * Correct under concurrency: only Postgres's clock decides. The update re-reads the row under its lock, so of two processes
 * that find it expired, the second finds the first as its holder. The subquery keeps the others from locking the row.
 *
 * @returns whether `holder` holds the lease now
 */
export async function acquireLease(db: Db, { name, holder, durationMs }: Lease): Promise<boolean> {
  const { rows } = await sql`
    insert into leases as mine (name, holder, expires_at)
    select ${name}, ${holder}, now() + ${durationMs}::int * interval '1 millisecond'
    where not exists (
      select from leases where name = ${name} and holder <> ${holder} and expires_at > now()
    )
    on conflict (name) do update set holder = excluded.holder, expires_at = excluded.expires_at
      where mine.holder = excluded.holder or mine.expires_at <= now()
    returning name
  `.execute(db);
  return rows.length > 0;
}

/** Releases a lease if `holder` still holds it, so that another process need not wait until it expires. */
export async function releaseLease(db: Db, { name, holder }: Lease): Promise<void> {
  await sql`delete from leases where name = ${name} and holder = ${holder}`.execute(db);
}
