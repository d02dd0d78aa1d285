import { sql } from 'kysely';
import type { Db } from '#db/client.ts';
import { type Closing, recordClosings } from '#db/final.ts';
import { mirrorNodes, readServer } from '#db/sources.ts';
import { type LedgerEntry, nodeOf, type Vote } from '#job';

/** Returns the stored votes by poll and voter. */
export async function storedVotes(db: Db): Promise<Map<string, Vote>> {
  const { rows } = await sql<{ poll: string; voter: string; choice: string; us: number }>`
    select polls.id as poll, voter_id as voter, choices.id as choice, cast_us as us
    from votes
    join polls on polls.no = votes.poll_no
    join choices on choices.poll_no = votes.poll_no and choices.no = votes.choice_no
  `.execute(db);
  return new Map(rows.map(({ poll, voter, choice, us }) => [`${poll} ${voter}`, [poll, voter, choice, us]]));
}

/** Returns the tallies other than zero by poll and choice. */
export async function storedTallies(db: Db): Promise<Map<string, number>> {
  const { rows } = await sql<{ key: string; votes: number }>`
    select polls.id || ' ' || choices.id as key, sum(votes)::bigint as votes
    from tallies
    join polls on polls.no = tallies.poll_no
    join choices on choices.poll_no = tallies.poll_no and choices.no = tallies.choice_no
    group by polls.id, choices.id
    having sum(votes) <> 0
  `.execute(db);
  return new Map(rows.map(({ key, votes }) => [key, votes]));
}

/** Returns the receipts that are not folded, sorted by key, without commit times. */
export async function storedReceipts(db: Db) {
  return db
    .selectFrom('receipts')
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
  const { id, name } = nodeOf(source);
  const nodes = [
    { id, name, ageMs: Date.now() - readAt, clockSkewMs: 0, ledger: new Map([[source, entry]]) },
  ];
  await mirrorNodes(db, nodes, await readServer(db));
}

/** Records closings as a worker does that has just read the nodes. */
export async function recordClosed(db: Db, closings: readonly Closing[]): Promise<void> {
  await recordClosings(db, closings, await readServer(db));
}

/** Deletes everything but polls and choices, and opens the polls. */
export async function emptyTables(db: Db): Promise<void> {
  await sql`
    truncate votes, receipts, written_off_jobs, tallies, closings, seals, sources, nodes, rejected_votes, operator_actions, leases
  `.execute(db);
  await sql`
    update polls set revision = 1, closed_at = null, final_at = null, result = null, forgotten_at = null, forgotten_to = null
  `.execute(db);
}
