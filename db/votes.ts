import { type RawBuilder, sql } from 'kysely';

/**
 * Writes the votes of `latest`, which has one row a voter (poll_id, voter_id, choice_id, cast_us), where they are newer
 * than what is there; gives those that were written, and the choice that each replaced. For `written`.
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

/** Adds what `written` has changed to the running counts, in the rows of a shard. */
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
