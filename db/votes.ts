import { type RawBuilder, sql } from 'kysely';

/**
 * The body of a CTE `written`. It upserts the votes of the CTE `latest` (poll_id, voter_id, choice_id, cast_us; one row per
 * poll and voter) and returns the rows written, with the choice each one replaced.
 *
 * Correct under concurrency:
 * - `on conflict` locks the existing row and evaluates `where` on its latest committed version, so a vote never replaces a
 *   newer one. The order by (cast_at, choice_id) is total, so commits in any order leave the same row.
 * - `old` is that locked row, so `replaced` is exact even if it is newer than the statement's snapshot.
 * - Rows are locked in key order, which avoids most deadlocks.
 */
export const WRITE_LATEST: RawBuilder<unknown> = sql`
  insert into votes as mine (poll_id, voter_id, choice_id, cast_at)
  select poll_id, voter_id, choice_id, timestamptz 'epoch' + cast_us * interval '1 microsecond'
  from latest
  order by poll_id, voter_id
  on conflict (poll_id, voter_id) do update
    set choice_id = excluded.choice_id, cast_at = excluded.cast_at
    where (excluded.cast_at, excluded.choice_id) > (mine.cast_at, mine.choice_id)
  returning new.poll_id, new.voter_id, new.choice_id, old.choice_id as replaced
`;

/**
 * Returns the body of a CTE that adds the changes of `written` to the tallies of a shard. `on conflict` adds to the latest
 * committed value, so concurrent statements never lose an update.
 */
export function tallyWritten(shard: number): RawBuilder<unknown> {
  return sql`
    insert into tallies as mine (poll_id, choice_id, shard, votes)
    select poll_id, choice_id, ${shard}::int, sum(change)
    from (
      select poll_id, choice_id, 1 as change from written
      union all
      select poll_id, replaced, -1 from written where replaced is not null
    ) as changes
    group by poll_id, choice_id
    having sum(change) <> 0
    order by poll_id, choice_id
    on conflict (poll_id, choice_id, shard) do update set votes = mine.votes + excluded.votes
  `;
}
