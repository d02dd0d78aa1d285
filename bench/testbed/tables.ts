import { sql } from 'kysely';
import type { Db } from '#db/client.ts';

/** Returns the number of votes of committed jobs. */
export async function committedVotes(db: Db): Promise<number> {
  const { rows } = await sql<{ votes: number }>`
    select (
      (select coalesce(sum(folded_votes), 0) from sources) + (select coalesce(sum(votes), 0) from receipts)
    )::bigint as votes
  `.execute(db);
  return rows[0]?.votes ?? 0;
}

/** Returns the number of rows of the votes table; a baseline has no receipts to sum. */
export async function storedVotes(db: Db): Promise<number> {
  const { rows } = await sql<{ votes: number }>`select count(*) as votes from votes`.execute(db);
  return rows[0]?.votes ?? 0;
}

/** Deletes all votes, receipts and totals. */
export async function resetTables(db: Db): Promise<void> {
  await sql`truncate votes, receipts, written_off_jobs, tallies, closings, seals, sources, rejected_votes`.execute(
    db,
  );
}

/** Returns the size of the votes table with its index, and how much write-ahead log was written so far, in bytes. */
export async function readSize(db: Db): Promise<{ readonly tableBytes: number; readonly walBytes: number }> {
  const { rows } = await sql<{ tableBytes: number; walBytes: number }>`
    select pg_total_relation_size('votes') as "tableBytes", (pg_current_wal_lsn() - '0/0')::bigint as "walBytes"
  `.execute(db);
  return rows[0] as { tableBytes: number; walBytes: number };
}
