import { sql } from 'kysely';
import type { Db } from './client.ts';

/** Default number of missing jobs listed per source. Their count is always exact. */
const MISSING_LISTED_MAX = 100;

/** The totals of one source in Postgres. */
export interface SourceAudit {
  readonly source: string;
  /** Its node's id. */
  readonly node: string;
  /** The mirror of the ledger; 0 until it has been read. */
  readonly acceptedSeq: number;
  readonly acceptedVotes: number;
  /** Committed jobs, and their votes by outcome. */
  readonly jobs: number;
  readonly votes: number;
  readonly counted: number;
  readonly changed: number;
  readonly superseded: number;
  readonly rejected: number;
  /** Whether its node is retired, or an operator has declared its uncounted votes lost. */
  readonly isRetired: boolean;
  readonly isWrittenOff: boolean;
  /** Jobs above it were never acknowledged, and are discarded; null while the source is not fenced. */
  readonly fencedSeq: number | null;
  /** The last job at which receipts and ledger were compared; the votes that the ledger had more there, by cause. */
  readonly comparedSeq: number;
  readonly unexplainedVotes: number;
  readonly writtenOffVotes: number;
  /** The jobs that an operator declared lost, ascending. They are among `jobs`, with no votes. */
  readonly writtenOffJobs: readonly WrittenOffJob[];
  /** How many jobs from 1 to the highest known number have no receipt, and the first of these numbers. */
  readonly missingJobs: number;
  readonly missing: readonly number[];
}

/** A job that an operator declared lost. */
export interface WrittenOffJob {
  readonly seq: number;
  readonly reason: string;
}

/** A choice whose tally differs from a recount of the votes. */
export interface TallyMismatch {
  readonly poll: string;
  readonly choice: string;
  readonly tally: number;
  readonly recount: number;
}

/**
 * Returns the accepted jobs and votes of every source, and the outcomes of its votes. It reads one row per source and the
 * receipts that are not folded yet, a few seconds' worth. One statement reads one snapshot, in which a job's receipt and votes
 * are visible together or not at all, so the sums agree during commits too.
 *
 * @param listedMax how many missing job numbers to list per source
 */
export async function auditSources(db: Db, listedMax = MISSING_LISTED_MAX): Promise<SourceAudit[]> {
  const { rows } = await sql<SourceAudit>`
    with recent as (
      select source, count(*) as jobs, max(seq) as last, sum(votes) as votes, sum(counted) as counted,
        sum(changed) as changed, sum(superseded) as superseded, sum(rejected) as rejected
      from receipts
      group by source
    ),
    known as (
      select sources.*, nodes.retired_at, nodes.written_off_at,
        folded_seq + coalesce(jobs, 0) as jobs,
        folded_votes + coalesce(votes, 0) as votes,
        folded_counted + coalesce(counted, 0) as counted,
        folded_changed + coalesce(changed, 0) as changed,
        folded_superseded + coalesce(superseded, 0) as superseded,
        folded_rejected + coalesce(rejected, 0) as rejected,
        greatest(accepted_seq, last) as highest
      from sources
      join nodes on nodes.id = sources.node_id
      left join recent using (source)
    )
    select source, node_id as node, accepted_seq as "acceptedSeq", accepted_votes as "acceptedVotes",
      jobs::bigint, votes::bigint, counted::bigint, changed::bigint, superseded::bigint, rejected::bigint,
      retired_at is not null as "isRetired", written_off_at is not null as "isWrittenOff",
      fenced_seq as "fencedSeq", compared_seq as "comparedSeq", unexplained_votes as "unexplainedVotes",
      written_off_votes as "writtenOffVotes",
      (
        select coalesce(json_agg(json_build_object('seq', seq, 'reason', reason) order by seq), '[]')
        from written_off_jobs w
        where w.source = known.source
      ) as "writtenOffJobs",
      highest - jobs as "missingJobs",
      case when highest = jobs then '[]'::json else (
        select coalesce(json_agg(number order by number), '[]')
        from (
          select number
          -- Bounds the scan: at most "jobs" numbers have a receipt, so the first gaps lie within this range.
          from generate_series(folded_seq + 1, least(highest, jobs + ${listedMax}::bigint)) as number
          where not exists (select from receipts r where r.source = known.source and r.seq = number)
          order by number
          limit ${listedMax}
        ) as first
      ) end as missing
    from known
    order by source
  `.execute(db);
  return rows;
}

/**
 * Returns how many votes arrived after their poll had become final, by source. They are kept in `rejected_votes`, and only
 * a node that had been written off, or a write whose answer was lost, can have them.
 */
export async function auditLateVotes(db: Db): Promise<ReadonlyMap<string, number>> {
  const { rows } = await sql<{ source: string; votes: number }>`
    select source, count(*) as votes from rejected_votes where reason = 'poll_final' group by source order by source
  `.execute(db);
  return new Map(rows.map(({ source, votes }) => [source, votes]));
}

/** Returns all sources in Postgres. */
export async function knownSources(db: Db): Promise<ReadonlySet<string>> {
  const rows = await db.selectFrom('sources').select('source').execute();
  return new Set(rows.map(({ source }) => source));
}

/**
 * Recounts all votes and returns the tallies that differ. It reads every vote. A commit writes votes and tallies together, and
 * one statement reads one snapshot, so commits in progress cause no mismatch. Polls whose votes are deleted have none to recount.
 */
export async function auditTallies(db: Db): Promise<TallyMismatch[]> {
  const { rows } = await sql<TallyMismatch>`
    select polls.id as poll, choices.id as choice, coalesce(tally, 0) as tally, coalesce(recount, 0) as recount
    from (select poll_no, choice_no, sum(votes)::bigint as tally from tallies group by poll_no, choice_no) as t
    full join (select poll_no, choice_no, count(*) as recount from votes group by poll_no, choice_no) as v
      using (poll_no, choice_no)
    join polls on polls.no = poll_no
    join choices on choices.poll_no = polls.no and choices.no = choice_no
    where coalesce(tally, 0) <> coalesce(recount, 0) and forgotten_at is null
    order by polls.id, choices.id
  `.execute(db);
  return rows;
}
