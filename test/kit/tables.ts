import { sql } from 'kysely';
import type { Db } from '#db/client.ts';
import { mirrorLedgers } from '#db/ledgers.ts';
import type { LedgerEntry, Vote } from '#job';

/** Returns the stored votes by poll and voter. */
export async function storedVotes(db: Db): Promise<Map<string, Vote>> {
  const { rows } = await sql<{ poll: string; voter: string; choice: string; us: number }>`
    select poll_id as poll, voter_id as voter, choice_id as choice,
      (extract(epoch from cast_at) * 1000000)::bigint as us
    from votes
  `.execute(db);
  return new Map(rows.map(({ poll, voter, choice, us }) => [`${poll} ${voter}`, [poll, voter, choice, us]]));
}

/** Returns the tallies other than zero by poll and choice. */
export async function storedTallies(db: Db): Promise<Map<string, number>> {
  const { rows } = await sql<{ key: string; votes: number }>`
    select poll_id || ' ' || choice_id as key, sum(votes)::bigint as votes
    from tallies group by poll_id, choice_id having sum(votes) <> 0
  `.execute(db);
  return new Map(rows.map(({ key, votes }) => [key, votes]));
}

/** Returns the receipts sorted by key, without commit times. */
export async function storedReceipts(db: Db) {
  return db
    .selectFrom('batches')
    .select(['source', 'seq', 'votes', 'counted', 'changed', 'superseded', 'rejected'])
    .orderBy('source')
    .orderBy('seq')
    .execute();
}

/** Mirrors one ledger entry as a worker does that reads it at `readAt`. */
export async function mirrorEntry(
  db: Db,
  source: string,
  entry: LedgerEntry,
  readAt = Date.now(),
): Promise<void> {
  await mirrorLedgers(db, new Map([[source, { ...entry, readAt }]]));
}

/** Deletes everything but polls and choices. */
export async function emptyTables(db: Db): Promise<void> {
  await sql`truncate votes, batches, tallies, committed, ledgers, rejected_votes, retired_nodes`.execute(db);
}
