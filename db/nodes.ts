import { sql } from 'kysely';
import type { Db } from './client.ts';

/** Result of `retireNode`. `jobs` is the number of jobs in the node's ledger that have no receipt. */
export type Retirement =
  | { readonly status: 'retired' }
  | { readonly status: 'unknown' }
  | { readonly status: 'incomplete'; readonly jobs: number };

/**
 * Retires a node, so that results become final without another read of its ledger. Refused while a job of its ledger has
 * no receipt.
 *
 * Correct under concurrency: check and insert are one statement. Receipts only ever appear, so a commit in progress at
 * worst causes a refusal. A ledger read after `retired_at` revokes the retirement, see `readResults`.
 */
export async function retireNode(db: Db, node: string): Promise<Retirement> {
  const { rows } = await sql<{ sources: number; missing: number }>`
    with source as (
      select greatest(ledgers.accepted_seq - coalesce(done.jobs, 0) + ahead.jobs, 0) as missing
      from ledgers
      left join (
        select source, sum(jobs)::bigint as jobs from committed group by source
      ) as done using (source)
      -- Jobs above the ledger's last number must not make up for lower ones without a receipt.
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
  return missing === 0 ? { status: 'retired' } : { status: 'incomplete', jobs: missing };
}
