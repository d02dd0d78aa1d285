import { sql } from 'kysely';
import type { Db } from './client.ts';
import { tallyWritten, WRITE_LATEST } from './votes.ts';

/** So many are counted in one transaction; about 100 ms of work for Postgres, during which no commit goes on. */
const VOTES_AT_A_TIME = 10_000;
/** Any will do: nobody else counts meanwhile. */
const SHARD = 0;

/**
 * Counts votes that were rejected only because their poll or choice was not in the tables yet. In an update handlers and
 * workers are replaced side by side, so a new handler may take votes for a poll that no worker has heard of. Call it
 * after `upsertPolls`, any number of times.
 *
 * Why none stays behind: every commit holds a lock on `rejected_votes` from before it looks for the polls until its end.
 * The lock that is taken here waits for those under way, and whoever comes later finds the polls.
 *
 * @returns how many votes were counted so, those included that a later vote of the same voter had replaced already
 * @throws the error of Postgres; some may have been counted then
 */
export async function countLatePolls(db: Db): Promise<number> {
  let votes = 0;
  for (;;) {
    const counted = await db.transaction().execute(countSome);
    votes += counted;
    if (counted < VOTES_AT_A_TIME) return votes;
  }
}

async function countSome(db: Db): Promise<number> {
  await sql`lock table rejected_votes in share row exclusive mode`.execute(db);
  const { rows } = await sql<{ votes: number }>`
    with chosen as (
      select rejected_votes.ctid, choices.poll_id, choices.id as choice_id
      from rejected_votes
      join choices on choices.poll_id = vote ->> 0 and choices.id = vote ->> 2
      where reason in ('unknown_poll', 'unknown_choice')
      limit ${VOTES_AT_A_TIME}
    ),
    late as materialized (
      delete from rejected_votes using chosen where rejected_votes.ctid = chosen.ctid
      returning source, seq, poll_id, choice_id, (vote ->> 1)::uuid as voter_id, (vote ->> 3)::bigint as cast_us
    ),
    latest as materialized (
      select distinct on (poll_id, voter_id) poll_id, voter_id, choice_id, cast_us, source, seq
      from late
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
      set counted = batches.counted + it.counted,
        changed = batches.changed + it.changed,
        superseded = batches.superseded + it.votes - it.counted - it.changed,
        rejected = batches.rejected - it.votes
      from (
        select source, seq, count(*) as votes, coalesce(outcome.counted, 0) as counted,
          coalesce(outcome.changed, 0) as changed
        from late
        left join outcome using (source, seq)
        group by source, seq, outcome.counted, outcome.changed
      ) as it
      where batches.source = it.source and batches.seq = it.seq
    )
    select count(*) as votes from late
  `.execute(db);
  return rows[0]?.votes ?? 0;
}
