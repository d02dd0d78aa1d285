import { sql } from 'kysely';
import type { Db } from './client.ts';

/** How many missing job numbers of one source are named, unless the caller wants more; the count is always exact. */
const MISSING_NAMED_MAX = 100;

/** What Postgres knows of one source. Counted from the receipts themselves, not from running totals. */
export interface SourceAudit {
  readonly source: string;
  readonly node: string | null;
  /** The mirror of the node's ledger; 0 while it has not been read. */
  readonly acceptedSeq: number;
  readonly acceptedVotes: number;
  readonly jobs: number;
  readonly votes: number;
  readonly counted: number;
  readonly changed: number;
  readonly superseded: number;
  readonly rejected: number;
  /** Whether its node has been retired, and its ledger not been read since. */
  readonly retired: boolean;
  /** Numbers from 1 to the highest known one that have no receipt: how many, and the first of them. */
  readonly missingJobs: number;
  readonly missing: readonly number[];
}

/** A choice whose running tally differs from a recount of the votes. */
export interface TallyMismatch {
  readonly poll: string;
  readonly choice: string;
  readonly tally: number;
  readonly recount: number;
}

/**
 * Reads, for every source, what was accepted and what became of it.
 *
 * @param namedMax how many missing job numbers of one source are named
 */
export async function auditSources(db: Db, namedMax = MISSING_NAMED_MAX): Promise<SourceAudit[]> {
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
          -- As far as that, so many are missing, however high a number somebody has claimed.
          from generate_series(1, least(highest, coalesce(jobs, 0) + ${namedMax}::bigint)) as number
          where not exists (select from batches b where b.source = known.source and b.seq = number)
          order by number
          limit ${namedMax}
        ) as first
      ) end as missing
    from known
    order by source
  `.execute(db);
  return rows;
}

/** The sources that Postgres knows now; cheap, because it reads no receipts. */
export async function knownSources(db: Db): Promise<ReadonlySet<string>> {
  const { rows } = await sql<{ source: string }>`
    select source from ledgers union select source from committed
  `.execute(db);
  return new Set(rows.map(({ source }) => source));
}

/** Recounts all votes and compares with the tallies; empty when they agree. One statement, so one moment. */
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
