import { sql } from 'kysely';
import { isSound, jobKey, type ReceivedBatch } from '#job';
import type { Db } from './client.ts';
import { tallyWritten, WRITE_LATEST } from './votes.ts';

/** What one commit did. `duplicates` are jobs that had been counted before. */
export interface CommitResult {
  readonly jobs: number;
  readonly duplicates: number;
  readonly counted: number;
  readonly changed: number;
  readonly superseded: number;
  readonly rejected: number;
}

const MALFORMED_BALLOT = 0;
const NO_VOTER = '00000000-0000-0000-0000-000000000000';
const MALFORMED_CHARACTERS_MAX = 2_000;

/**
 * Counts jobs: receipts, votes, tallies and rejected votes in one statement, which is one transaction. A job whose
 * receipt exists already is left out as a whole, so it may be passed any number of times.
 *
 * Why this is correct when several run at once:
 * - A job's votes and its receipt become visible together or not at all.
 * - Two statements with the same job cannot both succeed: the second one's receipt violates the primary key, and all it
 *   did is undone. The caller tries again (see `isWorthRetrying`), and then finds the receipt.
 * - A voter's row moves only from an older vote to a newer one, by `(cast_at, choice_id)`, so the order of commits
 *   does not matter.
 * - `old` in RETURNING is the row that was really replaced, read under its lock, so the deltas are exact.
 * - A vote for a poll that is only about to be known is kept in `rejected_votes`; see `countLatePolls`.
 * - Rows are locked in the order of their keys, so two statements seldom wait for each other in a circle.
 *
 * @param shard the caller's rows in `tallies` and `committed`; callers with a shard each never wait for each other there
 * @throws the error of Postgres; nothing has happened then
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
    -- Each distinct pair of poll and choice once, and why it cannot be taken, if so.
    ballot as materialized (
      select b.*, case
        when choices.id is not null then null
        when polls.id is not null then 'unknown_choice'
        else 'unknown_poll'
      end as refusal
      from unnest(${input.polls}::text[], ${input.choices}::text[]) with ordinality as b (poll_id, choice_id, no)
      left join polls on polls.id = b.poll_id
      left join choices on choices.poll_id = b.poll_id and choices.id = b.choice_id
    ),
    -- The outer joins and the plain boolean are for the planner, which then expects as many rows as there are. It takes
    -- an inner join or "refusal is null" to leave next to nothing, and would find each written vote's job by looking
    -- through all of "latest": a time that grows with the square of the votes.
    vote as materialized (
      select v.*, ballot.poll_id, ballot.choice_id,
        case when ballot.no is null then 'malformed' else ballot.refusal end as refusal,
        job.no is not null and ballot.no is not null and ballot.refusal is null as is_taken
      from unnest(${input.jobs}::int[], ${input.ballots}::int[], ${input.voters}::uuid[], ${input.castAts}::bigint[])
        with ordinality as v (job_no, ballot_no, voter_id, cast_us, no)
      left join job on job.no = v.job_no
      left join ballot on ballot.no = v.ballot_no
    ),
    -- One row a voter: a statement must not write the same row twice.
    latest as materialized (
      select distinct on (poll_id, voter_id) poll_id, voter_id, choice_id, cast_us, job_no
      from vote
      where is_taken
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
    refused as (
      select job_no, count(*) as rejected from vote where refusal is not null group by job_no
    ),
    kept as (
      insert into rejected_votes (source, seq, index, reason, vote)
      select job.source, job.seq, vote.no - 1 - job.first, vote.refusal,
        coalesce(
          to_jsonb(malformed.text),
          jsonb_build_array(vote.poll_id, vote.voter_id, vote.choice_id, vote.cast_us)
        )
      from vote
      join job on job.no = vote.job_no
      left join unnest(${input.malformedPlaces}::int[], ${input.malformedTexts}::text[]) as malformed (no, text)
        on malformed.no = vote.no
      where vote.refusal is not null
    ),
    receipt as (
      insert into batches (source, seq, votes, counted, changed, superseded, rejected)
      select source, seq, size, it.counted, it.changed, size - it.counted - it.changed - it.rejected, it.rejected
      from job
      left join outcome on outcome.job_no = job.no
      left join refused on refused.job_no = job.no
      cross join lateral (
        select coalesce(outcome.counted, 0) as counted,
          coalesce(outcome.changed, 0) as changed,
          coalesce(refused.rejected, 0) as rejected
      ) as it
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
  if (!done) throw new Error('the commit gave no result');
  return { ...done, duplicates: batches.length - done.jobs };
}

/**
 * The jobs as parallel arrays. The long ones are array literals made here, because numbers and UUIDs need no escaping
 * and the driver's own conversion costs more than the commit; each distinct ballot is sent once and referred to.
 */
function encode(batches: readonly ReceivedBatch[]) {
  const sources: string[] = [];
  const seqs: number[] = [];
  const sizes: number[] = [];
  const offsets: number[] = [];
  const polls: string[] = [];
  const choices: string[] = [];
  const ballotNumbers = new Map<string, number>();
  const jobs: number[] = [];
  const ballots: number[] = [];
  const voters: string[] = [];
  const castAts: number[] = [];
  const malformedPlaces: number[] = [];
  const malformedTexts: string[] = [];

  // The same job twice in one statement would violate the key of its receipt on every attempt.
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
      if (!isSound(vote)) {
        ballots.push(MALFORMED_BALLOT);
        voters.push(NO_VOTER);
        castAts.push(0);
        malformedPlaces.push(jobs.length);
        malformedTexts.push(
          (JSON.stringify(vote.malformed) ?? 'undefined').slice(0, MALFORMED_CHARACTERS_MAX),
        );
        continue;
      }
      const [poll, voter, choice, castAt] = vote;
      // An id holds no NUL, so the pair cannot be mistaken for another.
      const pair = `${poll}\0${choice}`;
      let ballot = ballotNumbers.get(pair);
      if (ballot === undefined) {
        ballot = polls.push(poll);
        choices.push(choice);
        ballotNumbers.set(pair, ballot);
      }
      ballots.push(ballot);
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
    malformedPlaces,
    malformedTexts,
    jobs: literal(jobs),
    ballots: literal(ballots),
    voters: literal(voters),
    castAts: literal(castAts),
  };
}

function literal(values: readonly (string | number)[]): string {
  return `{${values.join(',')}}`;
}
