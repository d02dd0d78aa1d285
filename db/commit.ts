import { sql } from 'kysely';
import { isWellFormed, jobKey, type ReceivedBatch } from '#job';
import type { Db } from './client.ts';
import { registerSources } from './sources.ts';
import { readWrittenOff } from './write-off.ts';

/** Result of one commit: jobs by outcome, and the votes of the new jobs by outcome. */
export interface CommitResult {
  /** Jobs committed now. */
  readonly jobs: number;
  /** Jobs committed earlier. */
  readonly duplicates: number;
  /** Jobs above the fence of their source. No vote in them was acknowledged, and none is counted. */
  readonly discarded: number;
  /** Keys of the jobs to commit later: their polls or choices are unknown, and their nodes not yet read for this server. */
  readonly deferred: readonly string[];
  /** Jobs that an operator had written off, and why, by job key. Their votes are not counted. */
  readonly writtenOff: ReadonlyMap<string, string>;
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
 * a job that already has a receipt is skipped. Sources without a row are registered first.
 *
 * Handlers accept votes only for polls that Postgres had. If one is unknown, Postgres may have been restored from a backup, so
 * the jobs of nodes that were not read since it started are deferred, all of them in this call: reading a node adopts its polls.
 *
 * @param shard selects the rows in `tallies`; callers with different shards never wait for each other there
 * @throws the error of Postgres, after the rollback
 */
export async function commitBatches(
  db: Db,
  batches: readonly ReceivedBatch[],
  shard: number,
): Promise<CommitResult> {
  const input = encode(batches);
  let outcome = await commitKnown(db, input, shard);
  if (outcome.known < new Set(input.sources).size) {
    // The row must be visible before the statement that locks it. Jobs of known sources are committed by now.
    await registerSources(db, input.sources);
    const rest = await commitKnown(db, input, shard);
    outcome = add(outcome, rest);
  }
  const { known: _, ...result } = outcome;
  const repeated = batches.length - result.jobs - result.discarded - result.deferred.length;
  // A job with a receipt stays as it is, so a later statement reads the same.
  const writtenOff = repeated > 0 ? await readWrittenOff(db, input) : NOTHING;
  return { ...result, duplicates: repeated - writtenOff.size, writtenOff };
}

const NOTHING: ReadonlyMap<string, string> = new Map();

/** What one statement did, and how many of its sources have a row in `sources`. The jobs of all others are left out. */
type Outcome = Omit<CommitResult, 'duplicates' | 'writtenOff'> & { readonly known: number };

/**
 * Correct under concurrency:
 * - A job's receipt and votes become visible together or not at all.
 * - Of two statements with the same job, at most one succeeds: the other violates the primary key of the receipt and is
 *   rolled back. Its caller retries (see `retryPolicyFor`) and then finds the receipt.
 * - If that receipt is folded in between, there is no key to violate. Therefore `for key share` locks the rows of the sources
 *   and re-reads them: a fold takes `for update`, so it either waits for this statement or its outcome is seen here,
 *   even if it is newer than the snapshot. The same holds for fences, and for polls that become final.
 * - A voter's row only ever moves to a newer vote. `on conflict` locks the row and evaluates `where` on its latest version, and
 *   the order by (cast_us, choice_no) is total, so commits commute.
 * - `old` in RETURNING is that locked row, so the deltas of the tallies are exact even if it is newer than the snapshot.
 * - Rows are locked in key order, which makes deadlocks rare. Postgres breaks one by an error, and the caller retries.
 */
async function commitKnown(db: Db, input: Encoded, shard: number): Promise<Outcome> {
  const { rows } = await sql<Outcome>`
    with source as materialized (
      select source, folded_seq, fenced_seq, coalesce(read_since = pg_postmaster_start_time(), false) as is_read
      from sources
      join nodes on nodes.id = node_id
      where source = any (${input.sources}::text[])
      order by source
      for key share of sources
    ),
    known_poll as materialized (
      select no, id, final_at is not null as is_final
      from polls
      where id = any (${input.polls}::text[])
      order by no
      for key share
    ),
    -- The distinct pairs of poll and choice, each with the reason to reject it, if any.
    pair as materialized (
      select p.*, known_poll.no as poll_no, choices.no as choice_no, case
        when known_poll.no is null then 'unknown_poll'
        when choices.no is null then 'unknown_choice'
        when known_poll.is_final then 'poll_final'
      end as rejection
      from unnest(${input.polls}::text[], ${input.choices}::text[]) with ordinality as p (poll_id, choice_id, no)
      left join known_poll on known_poll.id = p.poll_id
      left join choices on choices.poll_no = known_poll.no and choices.id = p.choice_id
    ),
    candidate as materialized (
      select j.*, coalesce(j.seq > source.fenced_seq, false) as is_discarded,
        coalesce(j.seq <= source.fenced_seq, true) and not is_read
          and exists (select from pair where rejection in ('unknown_poll', 'unknown_choice')) as is_deferred
      from unnest(${input.sources}::text[], ${input.seqs}::bigint[], ${input.sizes}::int[], ${input.offsets}::int[])
        with ordinality as j (source, seq, size, first, no)
      join source using (source)
      where j.seq > source.folded_seq
        and not exists (select from receipts r where r.source = j.source and r.seq = j.seq)
    ),
    job as materialized (
      select * from candidate where not is_discarded and not is_deferred
    ),
    -- The outer joins and the boolean column keep the planner's row estimate right. With inner joins or a filter on
    -- "rejection is null" it expects one row, and joins "written" to "latest" by a nested loop: quadratic time.
    vote as materialized (
      select v.*, pair.poll_id, pair.choice_id, pair.poll_no, pair.choice_no,
        case when pair.no is null then 'malformed' else pair.rejection end as rejection,
        job.no is not null and pair.no is not null and pair.rejection is null as is_valid
      from unnest(${input.jobs}::int[], ${input.pairs}::int[], ${input.voters}::uuid[], ${input.castAts}::bigint[])
        with ordinality as v (job_no, pair_no, voter_id, cast_us, no)
      left join job on job.no = v.job_no
      left join pair on pair.no = v.pair_no
    ),
    -- One row per voter: "on conflict" cannot write a row twice in one statement.
    latest as materialized (
      select distinct on (poll_no, voter_id) poll_no, voter_id, choice_no, cast_us, job_no
      from vote
      where is_valid
      order by poll_no, voter_id, cast_us desc, choice_no desc
    ),
    written as (
      insert into votes as mine (poll_no, voter_id, choice_no, cast_us)
      select poll_no, voter_id, choice_no, cast_us
      from latest
      order by poll_no, voter_id
      on conflict (poll_no, voter_id) do update
        set choice_no = excluded.choice_no, cast_us = excluded.cast_us
        where (excluded.cast_us, excluded.choice_no) > (mine.cast_us, mine.choice_no)
      returning new.poll_no, new.voter_id, new.choice_no, old.choice_no as replaced
    ),
    -- Materialized: the planner would otherwise aggregate all votes again for each job.
    outcome as materialized (
      select job_no,
        count(*) filter (where replaced is null) as counted,
        count(*) filter (where replaced is not null) as changed
      from written
      join latest using (poll_no, voter_id)
      group by job_no
    ),
    invalid as materialized (
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
      insert into receipts (source, seq, votes, counted, changed, superseded, rejected)
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
      returning counted, changed, superseded, rejected
    ),
    tallied as (
      insert into tallies as mine (poll_no, choice_no, shard, votes)
      select poll_no, choice_no, ${shard}::int, sum(change)
      from (
        select poll_no, choice_no, 1 as change from written
        union all
        select poll_no, replaced, -1 from written where replaced is not null
      ) as changes
      group by poll_no, choice_no
      having sum(change) <> 0
      order by poll_no, choice_no
      on conflict (poll_no, choice_no, shard) do update set votes = mine.votes + excluded.votes
    )
    select count(*) as jobs,
      coalesce(sum(counted), 0) as counted,
      coalesce(sum(changed), 0) as changed,
      coalesce(sum(superseded), 0) as superseded,
      coalesce(sum(rejected), 0) as rejected,
      (select count(*) from candidate where is_discarded) as discarded,
      (
        select coalesce(array_agg(source || '.' || seq), '{}') from candidate where is_deferred
      ) as deferred,
      (select count(*) from source) as known
    from receipt
  `.execute(db);
  const outcome = rows[0];
  if (!outcome) throw new Error('the commit returned no row');
  return outcome;
}

/** Adds the outcome of a second statement. It finds the jobs that the first one discarded or deferred again. */
function add(first: Outcome, second: Outcome): Outcome {
  return {
    jobs: first.jobs + second.jobs,
    counted: first.counted + second.counted,
    changed: first.changed + second.changed,
    superseded: first.superseded + second.superseded,
    rejected: first.rejected + second.rejected,
    discarded: second.discarded,
    deferred: second.deferred,
    known: second.known,
  };
}

type Encoded = ReturnType<typeof encode>;

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
