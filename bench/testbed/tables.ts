import { sql } from 'kysely';
import type { Db } from '#db/client.ts';

/** Votes of committed jobs. */
export async function committedVotes(db: Db): Promise<number> {
  const { rows } = await sql<{ votes: number }>`
    select coalesce(sum(votes), 0)::bigint as votes from committed
  `.execute(db);
  return rows[0]?.votes ?? 0;
}

/** Rows of the votes table; what a baseline without receipts can be followed by. */
export async function storedVotes(db: Db): Promise<number> {
  const { rows } = await sql<{ votes: number }>`select count(*) as votes from votes`.execute(db);
  return rows[0]?.votes ?? 0;
}

/** Empties all that counts. */
export async function resetTables(db: Db): Promise<void> {
  await sql`truncate votes, batches, tallies, committed, ledgers, rejected_votes`.execute(db);
}
