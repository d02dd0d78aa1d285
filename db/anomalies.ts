import { type RawBuilder, sql } from 'kysely';
import type { Db } from './client.ts';

const DELAY_CLASSES = 8;
/** The least numbers of voters by which bursts are classed. */
export const BURST_VOTERS: readonly number[] = [2, 10, 100, 1_000];
const MINUTES_LISTED_MAX = 20;
const BURSTS_LISTED_MAX = 10;

/** When the stored votes of a poll were cast: the last vote of each voter. */
export interface VoteTimes {
  readonly votes: number;
  /** Votes of voters whose id is not a UUIDv7. They are in no class of `delays`. */
  readonly withoutMintTime: number;
  /** Votes by the time from mint to vote, in 8 classes: before the mint, then by the thresholds of the view `vote_times`. */
  readonly delays: readonly number[];
  /** Minutes with votes, and the votes of their median; null without votes. */
  readonly minutes: number;
  readonly medianMinute: number | null;
  /** The busiest minutes in order of time, at most 20; `at` in milliseconds since 1970. */
  readonly busiest: readonly { readonly at: number; readonly votes: number }[];
}

/** Milliseconds in which several voters of a poll were minted. */
export interface MintBursts {
  /** One per entry of `BURST_VOTERS`: how many milliseconds, and how many voters in them. */
  readonly sizes: readonly { readonly milliseconds: number; readonly voters: number }[];
  /** The largest first, at most 10; `at` in milliseconds since 1970. */
  readonly largest: readonly { readonly at: number; readonly voters: number }[];
}

/** Reads the votes of a poll once. @param msMax time limit of the statement */
export async function readVoteTimes(db: Db, pollNo: number, msMax: number): Promise<VoteTimes> {
  const [times] = await readVotes(
    db,
    msMax,
    sql<VoteTimes>`
      with times as materialized (
        select minute, delay_class, votes from vote_times where poll_no = ${pollNo}
      ),
      per_minute as materialized (
        select minute, sum(votes)::bigint as votes from times group by minute
      )
      select
        (select coalesce(sum(votes), 0)::bigint from times) as votes,
        (select coalesce(sum(votes), 0)::bigint from times where delay_class is null) as "withoutMintTime",
        (
          select json_agg(coalesce(votes, 0) order by class)
          from generate_series(0, ${DELAY_CLASSES - 1}::int) as class
          left join (select delay_class, sum(votes) as votes from times group by delay_class) as delay
            on delay_class = class
        ) as delays,
        (select count(*) from per_minute) as minutes,
        (select percentile_disc(0.5) within group (order by votes) from per_minute) as "medianMinute",
        (
          select coalesce(json_agg(json_build_object('at', minute * 60000, 'votes', votes) order by minute), '[]')
          from (select * from per_minute order by votes desc, minute limit ${MINUTES_LISTED_MAX}) as busy
        ) as busiest
    `,
  );
  return times as VoteTimes;
}

/** Reads the voters of a poll once, in order of their ids. @param msMax time limit of the statement */
export async function readMintBursts(db: Db, pollNo: number, msMax: number): Promise<MintBursts> {
  const [bursts] = await readVotes(
    db,
    msMax,
    sql<MintBursts>`
      with burst as materialized (
        select minted_at, voters from mint_bursts where poll_no = ${pollNo}
      )
      select
        (
          select json_agg(
            json_build_object('milliseconds', coalesce(milliseconds, 0), 'voters', coalesce(voters, 0)) order by class
          )
          from generate_series(1, ${BURST_VOTERS.length}::int) as class
          left join (
            select width_bucket(voters, ${BURST_VOTERS}::bigint[]) as class, count(*) as milliseconds, sum(voters) as voters
            from burst
            group by 1
          ) as size using (class)
        ) as sizes,
        (
          select coalesce(json_agg(json_build_object('at', at, 'voters', voters) order by voters desc, at), '[]')
          from (
            select round(date_part('epoch', minted_at) * 1000)::bigint as at, voters
            from burst
            order by voters desc, at
            limit ${BURSTS_LISTED_MAX}
          ) as large
        ) as largest
    `,
  );
  return bursts as MintBursts;
}

/** Returns by poll number how many voters voted in that poll only. Reads all votes. @param msMax time limit of the statement */
export async function readOnePollVoters(db: Db, msMax: number): Promise<ReadonlyMap<number, number>> {
  const rows = await readVotes(
    db,
    msMax,
    sql<{ no: number; voters: number }>`select poll_no as no, voters from one_poll_voters`,
  );
  return new Map(rows.map(({ no, voters }) => [no, voters]));
}

/**
 * Runs one statement over many votes beside the commits: it takes no lock that a commit waits for, and uses one process. Its
 * snapshot ends with it, because vacuum keeps the dead rows of all tables for the oldest one. `enable_sort` makes the planner
 * read voters in the order of the primary key; it would sort them on disk, since it cannot estimate the share of UUIDv7.
 */
function readVotes<T>(db: Db, msMax: number, query: RawBuilder<T>): Promise<T[]> {
  return db
    .transaction()
    .setAccessMode('read only')
    .execute(async (transaction) => {
      await sql`
        select set_config('statement_timeout', ${String(Math.max(1, Math.floor(msMax)))}, true),
          set_config('max_parallel_workers_per_gather', '0', true), set_config('enable_sort', 'off', true)
      `.execute(transaction);
      return (await query.execute(transaction)).rows;
    });
}
