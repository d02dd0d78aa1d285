import { sql } from 'kysely';
import type { Db } from './client.ts';

/** Default number of missing jobs listed per source. Their count is always exact. */
const MISSING_LISTED_MAX = 100;

/** The totals of one source in Postgres, computed from its receipts, independently of the running totals. */
export interface SourceAudit {
  readonly source: string;
  readonly node: string | null;
  /** From the mirror of the node's ledger; 0 until it has been read. */
  readonly acceptedSeq: number;
  readonly acceptedVotes: number;
  readonly jobs: number;
  readonly votes: number;
  readonly counted: number;
  readonly changed: number;
  readonly superseded: number;
  readonly rejected: number;
  /** Whether the node was retired and its ledger has not been read since. */
  readonly retired: boolean;
  /** How many jobs from 1 to the highest known number have no receipt, and the first of these numbers. */
  readonly missingJobs: number;
  readonly missing: readonly number[];
}

/** A choice whose tally differs from a recount of the votes. */
export interface TallyMismatch {
  readonly poll: string;
  readonly choice: string;
  readonly tally: number;
  readonly recount: number;
}

/**
 * Returns the accepted jobs and votes of every source, and the outcomes of its votes. One statement reads one snapshot, in
 * which a job's receipt and votes are visible together or not at all, so the sums agree during commits too.
 *
 * @param listedMax how many missing job numbers to list per source
 */
export async function auditSources(db: Db, listedMax = MISSING_LISTED_MAX): Promise<SourceAudit[]> {
  const { rows } = await sql<SourceAudit>`
    with receipts as (
      select source, count(*) as jobs, max(seq) as last, sum(votes) as votes, sum(counted) as counted,
        sum(changed) as changed, sum(superseded) as superseded, sum(rejected) as rejected
      from batches
      group by source
    ),
    known as (
      select source, node, jobs, votes, counted, changed, superseded, rejected, greatest(accepted_seq, last) as highest,
        observed_at,
        coalesce(accepted_seq, 0) as accepted_seq, coalesce(accepted_votes, 0) as accepted_votes
      from ledgers
      full join receipts using (source)
    )
    select source, node, accepted_seq as "acceptedSeq", accepted_votes as "acceptedVotes",
      coalesce(jobs, 0) as jobs, coalesce(votes, 0)::bigint as votes, coalesce(counted, 0)::bigint as counted,
      coalesce(changed, 0)::bigint as changed, coalesce(superseded, 0)::bigint as superseded,
      coalesce(rejected, 0)::bigint as rejected, highest - coalesce(jobs, 0) as "missingJobs",
      exists (
        select from retired_nodes where retired_nodes.node = known.node and retired_at >= known.observed_at
      ) as retired,
      case when highest = jobs then '[]'::json else (
        select coalesce(json_agg(number order by number), '[]')
        from (
          select number
          -- Bounds the scan: at most "jobs" numbers have a receipt, so the first gaps lie within this range.
          from generate_series(1, least(highest, coalesce(jobs, 0) + ${listedMax}::bigint)) as number
          where not exists (select from batches b where b.source = known.source and b.seq = number)
          order by number
          limit ${listedMax}
        ) as first
      ) end as missing
    from known
    order by source
  `.execute(db);
  return rows;
}

/** Returns all sources in Postgres. It reads no receipts, so it is cheap. */
export async function knownSources(db: Db): Promise<ReadonlySet<string>> {
  const { rows } = await sql<{ source: string }>`
    select source from ledgers union select source from committed
  `.execute(db);
  return new Set(rows.map(({ source }) => source));
}

/**
 * Recounts all votes and returns the tallies that differ. A commit writes votes and tallies together, and one statement
 * reads one snapshot, so commits in progress cause no mismatch.
 */
export async function auditTallies(db: Db): Promise<TallyMismatch[]> {
  const { rows } = await sql<TallyMismatch>`
    select poll_id as poll, choice_id as choice, coalesce(tally, 0) as tally, coalesce(recount, 0) as recount
    from (select poll_id, choice_id, sum(votes)::bigint as tally from tallies group by poll_id, choice_id) as t
    full join (select poll_id, choice_id, count(*) as recount from votes group by poll_id, choice_id) as v
      using (poll_id, choice_id)
    where coalesce(tally, 0) <> coalesce(recount, 0)
    order by poll_id, choice_id
  `.execute(db);
  return rows;
}
