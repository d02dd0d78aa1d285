import { sql } from 'kysely';
import { type LedgerEntry, nodeOf } from '#job';
import type { Db } from './client.ts';

/** An entry of a node's ledger, as read. */
export interface LedgerReading extends LedgerEntry {
  /** Before the node was asked, in milliseconds since 1970. A slow write must not make the entry look more recent. */
  readonly readAt: number;
}

/**
 * Stores ledger entries of any number of nodes in one statement. Stored totals never decrease, so an outdated read or a
 * Redis that lost its data changes nothing, and concurrent calls may run in any order.
 *
 * @param readings by source. Times after Postgres' own clock are capped, because a worker's clock may be fast.
 */
export async function mirrorLedgers(db: Db, readings: ReadonlyMap<string, LedgerReading>): Promise<void> {
  if (readings.size === 0) return;
  const sources = [...readings.keys()].toSorted();
  const values = sources.map((source) => readings.get(source) as LedgerReading);
  await sql`
    insert into ledgers as mine (source, node, accepted_seq, accepted_votes, observed_at)
    select source, node, seq, votes, least(now(), to_timestamp(read_ms / 1000.0))
    from unnest(
      ${sources}::text[],
      ${sources.map(nodeOf)}::text[],
      ${values.map(({ seq }) => seq)}::bigint[],
      ${values.map(({ votes }) => votes)}::bigint[],
      ${values.map(({ readAt }) => readAt)}::bigint[]
    ) as entry (source, node, seq, votes, read_ms)
    on conflict (source) do update set
      accepted_seq = greatest(mine.accepted_seq, excluded.accepted_seq),
      accepted_votes = greatest(mine.accepted_votes, excluded.accepted_votes),
      observed_at = greatest(mine.observed_at, excluded.observed_at)
  `.execute(db);
}
