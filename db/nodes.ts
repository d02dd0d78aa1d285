import { sql } from 'kysely';
import type { Db } from './client.ts';

/** What became of the wish to retire a node. `jobs` are those that its ledger told and that have no receipt. */
export type Retirement =
  | { readonly status: 'retired' }
  | { readonly status: 'unknown' }
  | { readonly status: 'unsettled'; readonly jobs: number };

/**
 * Takes down that a node will not come back, so that results need not wait for its ledger to be read once more after the
 * close of a poll. Refused while jobs are missing that its ledger told. Should its ledger be read after this, the node has
 * come back, and its retirement no longer counts: see `readResults`.
 */
export async function retireNode(db: Db, node: string): Promise<Retirement> {
  const { rows } = await sql<{ sources: number; missing: number }>`
    with source as (
      select greatest(ledgers.accepted_seq - coalesce(done.jobs, 0) + ahead.jobs, 0) as missing
      from ledgers
      left join (
        select source, sum(jobs)::bigint as jobs from committed group by source
      ) as done using (source)
      -- Those numbered above the last one that the ledger told would make up for lower ones that are missing.
      cross join lateral (
        select count(*) as jobs
        from batches
        where batches.source = ledgers.source and batches.seq > ledgers.accepted_seq
      ) as ahead
      where ledgers.node = ${node}
    ),
    state as (
      select count(*) as sources, coalesce(sum(missing), 0)::bigint as missing from source
    ),
    retired as (
      insert into retired_nodes (node)
      select ${node} from state where sources > 0 and missing = 0
      on conflict (node) do update set retired_at = excluded.retired_at
    )
    select sources, missing from state
  `.execute(db);
  const { sources = 0, missing = 0 } = rows[0] ?? {};
  if (sources === 0) return { status: 'unknown' };
  return missing === 0 ? { status: 'retired' } : { status: 'unsettled', jobs: missing };
}
