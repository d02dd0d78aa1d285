import { sql } from 'kysely';
import type { Db } from './client.ts';
import { tallyWritten, WRITE_LATEST } from './votes.ts';

/** Maximum votes per transaction: about 100 ms of work for Postgres, during which commits wait. */
const VOTES_PER_TRANSACTION_MAX = 10_000;
/** The shard is arbitrary, because the table lock excludes commits. */
const SHARD = 0;

/**
 * Counts rejected votes whose poll or choice has been added since. During an update, a new handler may capture votes for a
 * poll that no worker has stored yet. Call it after `upsertPolls`; it is idempotent.
 *
 * Correct under concurrency:
 * - No vote is missed. A commit holds its lock on `rejected_votes` from before its snapshot until it ends. The lock
 *   taken here waits for commits in progress, and later ones see the new polls.
 * - No vote counts twice. The lock conflicts with itself, and each vote is deleted in the transaction that counts it.
 *
 * @returns the number of votes replayed, including those that a newer vote of the same voter supersedes
 * @throws the error of Postgres; earlier transactions of this call remain committed
 */
export async function replayRejectedVotes(db: Db): Promise<number> {
  let votes = 0;
  for (;;) {
    const replayed = await db.transaction().execute(replaySome);
    votes += replayed;
    if (replayed < VOTES_PER_TRANSACTION_MAX) return votes;
  }
}

async function replaySome(db: Db): Promise<number> {
  await sql`lock table rejected_votes in share row exclusive mode`.execute(db);
  const { rows } = await sql<{ votes: number }>`
    with candidate as (
      select rejected_votes.ctid, choices.poll_id, choices.id as choice_id
      from rejected_votes
      join choices on choices.poll_id = vote ->> 0 and choices.id = vote ->> 2
      where reason in ('unknown_poll', 'unknown_choice')
      limit ${VOTES_PER_TRANSACTION_MAX}
    ),
    replayed as materialized (
      delete from rejected_votes using candidate where rejected_votes.ctid = candidate.ctid
      returning source, seq, poll_id, choice_id, (vote ->> 1)::uuid as voter_id, (vote ->> 3)::bigint as cast_us
    ),
    latest as materialized (
      select distinct on (poll_id, voter_id) poll_id, voter_id, choice_id, cast_us, source, seq
      from replayed
      order by poll_id, voter_id, cast_us desc, choice_id desc
    ),
    written as (${WRITE_LATEST}),
    tallied as (${tallyWritten(SHARD)}),
    outcome as (
      select source, seq,
        count(*) filter (where replaced is null) as counted,
        count(*) filter (where replaced is not null) as changed
      from written
      join latest using (poll_id, voter_id)
      group by source, seq
    ),
    receipt as (
      update batches
      set counted = batches.counted + delta.counted,
        changed = batches.changed + delta.changed,
        superseded = batches.superseded + delta.votes - delta.counted - delta.changed,
        rejected = batches.rejected - delta.votes
      from (
        select source, seq, count(*) as votes, coalesce(outcome.counted, 0) as counted,
          coalesce(outcome.changed, 0) as changed
        from replayed
        left join outcome using (source, seq)
        group by source, seq, outcome.counted, outcome.changed
      ) as delta
      where batches.source = delta.source and batches.seq = delta.seq
    )
    select count(*) as votes from replayed
  `.execute(db);
  return rows[0]?.votes ?? 0;
}
