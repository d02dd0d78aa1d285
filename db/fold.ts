import { sql } from 'kysely';
import type { Db } from './client.ts';

/** Receipts folded per source and statement: bounds the time for which commits of that source wait. */
const RECEIPTS_PER_SOURCE_MAX = 5_000;
const SOURCES_PER_STATEMENT_MAX = 1_000;

/**
 * Folds receipts: replaces the contiguous receipts 1 to k of a source by their sums in `sources`, and compares these with
 * the ledger. It folds up to a target, an entry of the ledger as it was mirrored. There `unexplained_votes` becomes the
 * difference between the votes that the ledger counts and those in the receipts, see `compareVotes`. Then the current entry
 * becomes the target.
 *
 * Correct under concurrency:
 * - `for update` excludes the commits of a source while its receipts are folded, see `commitBatches`; `skip locked` leaves
 *   sources alone that are being committed.
 * - The locked row is re-read, so `folded_seq` may be newer than the snapshot in which the receipts are read. Then the first
 *   receipts seen do not follow it, or all of them do and are folded rightly.
 *
 * @returns the number of receipts folded; call it again while it is positive
 */
export async function foldReceipts(db: Db): Promise<number> {
  await sql`
    update sources set target_seq = accepted_seq, target_votes = accepted_votes,
      unexplained_votes = case
        when folded_seq = accepted_seq then accepted_votes - folded_votes - written_off_votes
        else unexplained_votes
      end
    where compared_seq = target_seq and (target_seq < accepted_seq or target_votes <> accepted_votes)
  `.execute(db);
  const { rows } = await sql<{ folded: number }>`
    with target as materialized (
      select source, folded_seq, target_seq
      from sources
      where compared_seq < target_seq
        and exists (select from receipts r where r.source = sources.source and r.seq = sources.folded_seq + 1)
      order by source
      limit ${SOURCES_PER_STATEMENT_MAX}
      for update skip locked
    ),
    run as (
      select source, seq
      from (
        select r.source, r.seq,
          r.seq - target.folded_seq - row_number() over (partition by r.source order by r.seq) as gap
        from target
        join receipts r on r.source = target.source
          and r.seq > target.folded_seq
          and r.seq <= least(target.target_seq, target.folded_seq + ${RECEIPTS_PER_SOURCE_MAX}::int)
      ) as numbered
      where gap = 0
    ),
    folded as (
      delete from receipts using run
      where receipts.source = run.source and receipts.seq = run.seq
      returning receipts.*
    ),
    total as (
      select source, count(*) as jobs, sum(votes) as votes, sum(counted) as counted, sum(changed) as changed,
        sum(superseded) as superseded, sum(rejected) as rejected
      from folded
      group by source
    ),
    stored as (
      update sources set
        folded_seq = folded_seq + jobs,
        folded_votes = folded_votes + votes,
        folded_counted = folded_counted + counted,
        folded_changed = folded_changed + changed,
        folded_superseded = folded_superseded + superseded,
        folded_rejected = folded_rejected + rejected
      from total
      where sources.source = total.source
    )
    select coalesce(sum(jobs), 0)::bigint as folded from total
  `.execute(db);
  await compareVotes(db);
  return rows[0]?.folded ?? 0;
}

/**
 * Compares the receipts of sources that are folded up to their target with the ledger. The receipts of jobs written off have no
 * votes, and how many the jobs had is unknown. So if such jobs were folded since the last comparison, the votes that the receipts
 * lack since then were in them. Votes that the ledger lacks stay unexplained.
 *
 * Correct under concurrency: the locked row is re-read, and from then on only another comparison changes what is compared.
 * A write-off is visible with its receipt, and its receipt before it is folded.
 */
async function compareVotes(db: Db): Promise<void> {
  await sql`
    with difference as materialized (
      select source, target_votes - folded_votes - written_off_votes as votes, unexplained_votes as known,
        exists (
          select from written_off_jobs w
          where w.source = sources.source and w.seq > compared_seq and w.seq <= target_seq
        ) as has_written_off
      from sources
      where compared_seq < target_seq and folded_seq = target_seq
      order by source
      for no key update
    ),
    split as (
      select source, votes, case when has_written_off then greatest(votes - known, 0) else 0 end as written_off
      from difference
    )
    update sources set
      compared_seq = target_seq,
      unexplained_votes = split.votes - written_off,
      written_off_votes = written_off_votes + written_off
    from split
    where sources.source = split.source
  `.execute(db);
}
