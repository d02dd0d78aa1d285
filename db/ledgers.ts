import { sql } from 'kysely';
import { type LedgerEntry, nodeOf } from '#job';
import type { Db } from './client.ts';

/**
 * Mirrors what a node's ledger says. Numbers only ever grow: an older reading, or a Redis that came back empty, takes
 * nothing away.
 *
 * @param readAt when the node was asked; storing may take long, and must not make the reading look fresher than it is
 */
export async function mirrorLedger(
  db: Db,
  entries: ReadonlyMap<string, LedgerEntry>,
  readAt = new Date(),
): Promise<void> {
  if (entries.size === 0) return;
  const sources = [...entries.keys()].toSorted();
  const values = sources.map((source) => entries.get(source) as LedgerEntry);
  await sql`
    insert into ledgers as mine (source, node, accepted_seq, accepted_votes, observed_at)
    select source, node, seq, votes, least(now(), ${readAt}::timestamptz)
    from unnest(
      ${sources}::text[],
      ${sources.map(nodeOf)}::text[],
      ${values.map(({ seq }) => seq)}::bigint[],
      ${values.map(({ votes }) => votes)}::bigint[]
    ) as entry (source, node, seq, votes)
    on conflict (source) do update set
      accepted_seq = greatest(mine.accepted_seq, excluded.accepted_seq),
      accepted_votes = greatest(mine.accepted_votes, excluded.accepted_votes),
      observed_at = greatest(mine.observed_at, excluded.observed_at)
  `.execute(db);
}
