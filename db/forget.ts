import { sql } from 'kysely';
import type { Db } from './client.ts';

/** Votes deleted by one statement: a few hundred milliseconds of work, and as much to repeat after a failure. */
const VOTES_PER_BATCH = 20_000;
/** The greatest UUID: all votes are deleted. */
const LAST_VOTER = 'ffffffff-ffff-ffff-ffff-ffffffffffff';

/** Marks the final polls whose `retain_votes_days` have passed as forgotten. @returns their ids */
export async function forgetExpired(db: Db): Promise<string[]> {
  const { rows } = await sql<{ poll: string }>`
    with due as (
      select no from polls
      where final_at + retain_votes_days * interval '1 day' <= now() and forgotten_at is null
      order by no
      for update
    ),
    expired as (
      update polls set forgotten_at = now() from due where polls.no = due.no returning id, retain_votes_days
    )
    insert into operator_actions (who, what, why, poll)
    select 'retainVotesDays', 'forget', 'final for ' || retain_votes_days || ' days', id from expired
    returning poll
  `.execute(db);
  return rows.map(({ poll }) => poll);
}

/**
 * Deletes votes of forgotten polls, and what was rejected for them, up to `batchMax` of each; of hidden polls also the result.
 * Repeat it until it returns 0. The poll's row stores the last voter deleted in the same transaction, so an interrupted deletion
 * continues there, also in a restored backup.
 *
 * Correct under concurrency: only final polls lose votes, and commits no longer change those; what they reject later is deleted
 * too. So no row moves between the read of its `ctid` and the delete, and of two calls the later one deletes nothing.
 *
 * The collation is that of the index: `polls.id` has another one.
 *
 * @returns how many rows were deleted
 */
export async function deleteForgotten(db: Db, batchMax = VOTES_PER_BATCH): Promise<number> {
  const { rows } = await sql<{ no: number; id: string; isHidden: boolean; after: string | null }>`
    select no, id, is_hidden as "isHidden", forgotten_to as after
    from polls
    where forgotten_at is not null and final_at is not null and (
      forgotten_to is distinct from ${LAST_VOTER}
      or exists (
        select from rejected_votes where reason <> 'malformed' and vote ->> 0 = polls.id collate "default"
      )
      or is_hidden and exists (select from tallies where poll_no = polls.no)
    )
    order by no
    limit 1
  `.execute(db);
  const [poll] = rows;
  if (!poll) return 0;
  const { no, id, isHidden, after } = poll;
  const votes = after === LAST_VOTER ? 0 : await deleteVotes(db, no, after, batchMax);
  const rejected = await sql`
    delete from rejected_votes
    where ctid = any (array(
      select ctid from rejected_votes where reason <> 'malformed' and vote ->> 0 = ${id} limit ${batchMax}
    ))
  `.execute(db);
  const tallies = isHidden ? await deleteResult(db, no) : 0;
  return votes + Number(rejected.numAffectedRows ?? 0) + tallies;
}

/**
 * Deletes votes in the order of the primary key, and stores the last one. Without that, each batch would read the dead rows of all
 * batches before: quadratic time until a vacuum.
 */
async function deleteVotes(db: Db, no: number, after: string | null, batchMax: number): Promise<number> {
  const { rows } = await sql<{ votes: number }>`
    with batch as materialized (
      select ctid as place, voter_id
      from votes
      where poll_no = ${no} and ${after === null ? sql`true` : sql`voter_id > ${after}::uuid`}
      order by voter_id
      limit ${batchMax}
    ),
    deleted as (
      delete from votes where ctid = any (array(select place from batch))
    )
    update polls set forgotten_to = case
      when (select count(*) from batch) < ${batchMax}::int then ${LAST_VOTER}::uuid
      else (select voter_id from batch order by voter_id desc limit 1)
    end
    where no = ${no}
    returning (select count(*) from batch) as votes
  `.execute(db);
  return rows[0]?.votes ?? 0;
}

/** Deletes the tallies and the result of a poll. Its row stays, so that its id is not taken for a new poll. */
async function deleteResult(db: Db, no: number): Promise<number> {
  const { numAffectedRows = 0n } = await sql`
    with emptied as (update polls set result = '{}' where no = ${no})
    delete from tallies where poll_no = ${no}
  `.execute(db);
  return Number(numAffectedRows);
}
