import { sql } from 'kysely';
import { type LedgerEntry, nodeOf } from '#job';
import type { Db } from './client.ts';

/** What one transaction in a node's Redis read. */
export interface NodeReading {
  readonly id: string;
  /** Its host's name; `undefined` while no source has registered. */
  readonly name: string | undefined;
  /** Time since the node was asked. An age, so that only the clock of Postgres counts. */
  readonly ageMs: number;
  /** Clock of the node minus clock of the worker. */
  readonly clockSkewMs: number;
  /** The sources of this node. */
  readonly ledger: ReadonlyMap<string, LedgerEntry>;
}

/** Stores sources, and the nodes in their names, that Postgres does not have. Needed once before a source's first commit. */
export async function registerSources(db: Db, sources: readonly string[]): Promise<void> {
  const names = [...new Set(sources)].toSorted();
  const nodes = names.map(nodeOf);
  await sql`
    with node as (
      insert into nodes (id, name)
      select distinct on (id) id, name
      from unnest(${nodes.map(({ id }) => id)}::text[], ${nodes.map(({ name }) => name)}::text[]) as entry (id, name)
      order by id
      on conflict do nothing
    )
    insert into sources (source, node_id)
    select source, node_id
    from unnest(${names}::text[], ${nodes.map(({ id }) => id)}::text[]) as entry (source, node_id)
    order by source
    on conflict do nothing
  `.execute(db);
}

/** Identifies the running Postgres server: the time of its start, which is compared for equality only. */
export async function readServer(db: Db): Promise<string> {
  const { rows } = await sql<{ server: string }>`select pg_postmaster_start_time()::text as server`.execute(
    db,
  );
  return (rows[0] as { server: string }).server;
}

/**
 * Mirrors nodes and their ledgers, any number of them in one statement. Stored totals never decrease, so an outdated read
 * or a Redis that lost its data changes nothing, and concurrent calls may run in any order. The totals of a fenced source are
 * fixed. A node that is read again is no longer written off.
 *
 * `read_since` identifies a Postgres server by its start. Each server reads every node anew before it rejects votes for
 * unknown polls or makes a poll final: it may have been restored from a backup, and the nodes hold newer polls. Call this
 * after what the nodes hold is adopted.
 *
 * @param server as returned by `readServer` before the polls were read that the nodes were compared with
 * @param readings at most one per node
 */
export async function mirrorNodes(db: Db, readings: readonly NodeReading[], server: string): Promise<void> {
  if (readings.length === 0) return;
  const nodes = readings.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  const entries = nodes
    .flatMap(({ id, ledger }) => [...ledger].map(([source, entry]) => ({ source, id, ...entry })))
    .toSorted((a, b) => (a.source < b.source ? -1 : 1));
  await sql`
    with node as (
      insert into nodes as mine (id, name, read_at, read_since, clock_skew_ms)
      select id, name, now() - age_ms * interval '1 millisecond', ${server}::timestamptz, skew_ms
      from unnest(
        ${nodes.map(({ id }) => id)}::text[],
        ${nodes.map(({ id, name }) => name ?? id)}::text[],
        ${nodes.map(({ ageMs }) => Math.round(ageMs))}::int[],
        ${nodes.map(({ clockSkewMs }) => clockSkewMs)}::int[]
      ) as entry (id, name, age_ms, skew_ms)
      on conflict (id) do update set
        name = coalesce(nullif(excluded.name, excluded.id), mine.name),
        read_at = greatest(mine.read_at, excluded.read_at),
        read_since = excluded.read_since,
        clock_skew_ms = excluded.clock_skew_ms,
        written_off_at = case when mine.written_off_at > excluded.read_at then mine.written_off_at end,
        written_off_reason = case when mine.written_off_at > excluded.read_at then mine.written_off_reason end
    )
    insert into sources as mine (source, node_id, accepted_seq, accepted_votes)
    select source, node_id, seq, votes
    from unnest(
      ${entries.map(({ source }) => source)}::text[],
      ${entries.map(({ id }) => id)}::text[],
      ${entries.map(({ seq }) => seq)}::bigint[],
      ${entries.map(({ votes }) => votes)}::bigint[]
    ) as entry (source, node_id, seq, votes)
    on conflict (source) do update set
      accepted_seq = greatest(mine.accepted_seq, excluded.accepted_seq),
      accepted_votes = greatest(mine.accepted_votes, excluded.accepted_votes)
      where mine.fenced_seq is null
        and (excluded.accepted_seq > mine.accepted_seq or excluded.accepted_votes > mine.accepted_votes)
  `.execute(db);
}
