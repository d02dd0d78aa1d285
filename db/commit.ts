import { sql } from 'kysely';
import { isWellFormed, jobKey, type ReceivedBatch } from '#job';
import type { Db } from './client.ts';
import { tallyWritten, WRITE_LATEST } from './votes.ts';

/** Result of one commit: new jobs, duplicates of jobs committed earlier, and votes by outcome. */
export interface CommitResult {
  readonly jobs: number;
  readonly duplicates: number;
  readonly counted: number;
  readonly changed: number;
  readonly superseded: number;
  readonly rejected: number;
}

/** Placeholders of malformed votes, which keep the arrays parallel. Pairs are numbered from 1, so 0 matches none. */
const MALFORMED_PAIR = 0;
const NO_VOTER = '00000000-0000-0000-0000-000000000000';
const MALFORMED_CHARACTERS_MAX = 2_000;

/**
 * Commits jobs: receipts, votes, tallies and rejected votes in one statement, which is one transaction. It is idempotent:
 * a job that already has a receipt is skipped.
 *
 * Correct under concurrency:
 * - A job's receipt and votes become visible together or not at all.
 * - Of two statements with the same job, at most one succeeds: the other violates the primary key of the receipt and is
 *   rolled back. Its caller retries (see `retryPolicyFor`) and then finds the receipt.
 * - A voter's row only ever moves to a newer vote, by `(cast_at, choice_id)`, so commits commute (see `WRITE_LATEST`).
 * - `old` in RETURNING is the replaced row, read under its lock, so the deltas of the tallies are exact.
 * - A vote for a poll that is not stored yet goes to `rejected_votes` and is replayed later (see `replayRejectedVotes`).
 * - Rows are locked in key order, which makes deadlocks rare. Postgres breaks one by an error, and the caller retries.
 *
 * @param shard selects the rows in `tallies` and `committed`; callers with different shards never wait for each other there
 * @throws the error of Postgres, after the rollback
 */
export async function commitBatches(
  db: Db,
  batches: readonly ReceivedBatch[],
  shard: number,
): Promise<CommitResult> {
  const input = encode(batches);
  const { rows } = await sql<Omit<CommitResult, 'duplicates'>>`
    with job as materialized (
      select j.*
      from unnest(${input.sources}::text[], ${input.seqs}::bigint[], ${input.sizes}::int[], ${input.offsets}::int[])
        with ordinality as j (source, seq, size, first, no)
      where not exists (select from batches b where b.source = j.source and b.seq = j.seq)
    ),
    -- The distinct pairs of poll and choice, each with the reason to reject it, if any.
    pair as materialized (
      select p.*, case
        when choices.id is not null then null
        when polls.id is not null then 'unknown_choice'
        else 'unknown_poll'
      end as rejection
      from unnest(${input.polls}::text[], ${input.choices}::text[]) with ordinality as p (poll_id, choice_id, no)
      left join polls on polls.id = p.poll_id
      left join choices on choices.poll_id = p.poll_id and choices.id = p.choice_id
    ),
    -- The outer joins and the boolean column keep the planner's row estimate right. With inner joins or a filter on
    -- "rejection is null" it expects one row, and joins "written" to "latest" by a nested loop: quadratic time.
    vote as materialized (
      select v.*, pair.poll_id, pair.choice_id,
        case when pair.no is null then 'malformed' else pair.rejection end as rejection,
        job.no is not null and pair.no is not null and pair.rejection is null as is_valid
      from unnest(${input.jobs}::int[], ${input.pairs}::int[], ${input.voters}::uuid[], ${input.castAts}::bigint[])
        with ordinality as v (job_no, pair_no, voter_id, cast_us, no)
      left join job on job.no = v.job_no
      left join pair on pair.no = v.pair_no
    ),
    -- One row per voter: "on conflict" cannot write a row twice in one statement.
    latest as materialized (
      select distinct on (poll_id, voter_id) poll_id, voter_id, choice_id, cast_us, job_no
      from vote
      where is_valid
      order by poll_id, voter_id, cast_us desc, choice_id desc
    ),
    written as (${WRITE_LATEST}),
    outcome as (
      select job_no,
        count(*) filter (where replaced is null) as counted,
        count(*) filter (where replaced is not null) as changed
      from written
      join latest using (poll_id, voter_id)
      group by job_no
    ),
    invalid as (
      select job_no, count(*) as rejected from vote where rejection is not null group by job_no
    ),
    stored_rejection as (
      insert into rejected_votes (source, seq, index, reason, vote)
      select job.source, job.seq, vote.no - 1 - job.first, vote.rejection,
        coalesce(
          to_jsonb(malformed.text),
          jsonb_build_array(vote.poll_id, vote.voter_id, vote.choice_id, vote.cast_us)
        )
      from vote
      join job on job.no = vote.job_no
      left join unnest(${input.malformedNumbers}::int[], ${input.malformedTexts}::text[]) as malformed (no, text)
        on malformed.no = vote.no
      where vote.rejection is not null
    ),
    receipt as (
      insert into batches (source, seq, votes, counted, changed, superseded, rejected)
      select source, seq, size, n.counted, n.changed, size - n.counted - n.changed - n.rejected, n.rejected
      from job
      left join outcome on outcome.job_no = job.no
      left join invalid on invalid.job_no = job.no
      cross join lateral (
        select coalesce(outcome.counted, 0) as counted,
          coalesce(outcome.changed, 0) as changed,
          coalesce(invalid.rejected, 0) as rejected
      ) as n
      order by source, seq
      returning source, votes, counted, changed, superseded, rejected
    ),
    tallied as (${tallyWritten(shard)}),
    totalled as (
      insert into committed as mine (source, shard, jobs, votes)
      select source, ${shard}::int, count(*), sum(votes)
      from receipt
      group by source
      order by source
      on conflict (source, shard) do update
        set jobs = mine.jobs + excluded.jobs, votes = mine.votes + excluded.votes
    )
    select count(*) as jobs,
      coalesce(sum(counted), 0) as counted,
      coalesce(sum(changed), 0) as changed,
      coalesce(sum(superseded), 0) as superseded,
      coalesce(sum(rejected), 0) as rejected
    from receipt
  `.execute(db);
  const done = rows[0];
  if (!done) throw new Error('the commit returned no row');
  return { ...done, duplicates: batches.length - done.jobs };
}

/**
 * Encodes jobs as parallel arrays. Each distinct pair of poll and choice is sent once, and votes refer to it by number.
 * The long arrays are formatted here: numbers and UUIDs need no escaping, and the driver's conversion would cost more CPU
 * than the commit itself.
 */
function encode(batches: readonly ReceivedBatch[]) {
  const sources: string[] = [];
  const seqs: number[] = [];
  const sizes: number[] = [];
  const offsets: number[] = [];
  const polls: string[] = [];
  const choices: string[] = [];
  const pairNumbers = new Map<string, number>();
  const jobs: number[] = [];
  const pairs: number[] = [];
  const voters: string[] = [];
  const castAts: number[] = [];
  const malformedNumbers: number[] = [];
  const malformedTexts: string[] = [];

  // A job twice in one statement would violate the primary key of its receipt on every attempt.
  const seen = new Set<string>();
  for (const { source, seq, votes } of batches) {
    const key = jobKey(source, seq);
    if (seen.has(key)) continue;
    seen.add(key);
    const job = sources.push(source);
    seqs.push(seq);
    sizes.push(votes.length);
    offsets.push(jobs.length);
    for (const vote of votes) {
      jobs.push(job);
      if (!isWellFormed(vote)) {
        pairs.push(MALFORMED_PAIR);
        voters.push(NO_VOTER);
        castAts.push(0);
        malformedNumbers.push(jobs.length);
        malformedTexts.push(
          (JSON.stringify(vote.malformed) ?? 'undefined').slice(0, MALFORMED_CHARACTERS_MAX),
        );
        continue;
      }
      const [poll, voter, choice, castAt] = vote;
      // Ids contain no NUL, so the key is unambiguous.
      const pair = `${poll}\0${choice}`;
      let number = pairNumbers.get(pair);
      if (number === undefined) {
        number = polls.push(poll);
        choices.push(choice);
        pairNumbers.set(pair, number);
      }
      pairs.push(number);
      voters.push(voter);
      castAts.push(castAt);
    }
  }
  return {
    sources,
    seqs,
    sizes,
    offsets,
    polls,
    choices,
    malformedNumbers,
    malformedTexts,
    jobs: literal(jobs),
    pairs: literal(pairs),
    voters: literal(voters),
    castAts: literal(castAts),
  };
}

function literal(values: readonly (string | number)[]): string {
  return `{${values.join(',')}}`;
}
