import { sql } from 'kysely';
import { type LedgerEntry, nodeOf } from '#job';
import type { Db } from './client.ts';

/**
 * Stores ledger entries. Stored totals never decrease, so an outdated read or a Redis that lost its data changes
 * nothing, and concurrent calls may run in any order.
 *
 * @param readAt when the ledger was read; a slow write must not make it more recent. Times after Postgres' own clock
 *   are capped, because a worker's clock may be fast.
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
