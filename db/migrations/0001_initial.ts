import { type Kysely, sql } from 'kysely';

/**
 * Creates the tables. Ids use `collate "C"`, a comparison by bytes, so that they sort the same way everywhere. Votes refer to
 * polls and choices by number, which halves a vote's share of the tables and of the write-ahead log. `votes` has no foreign
 * keys: the commit validates against `choices`, and a trigger per row would cost more than the insert.
 *
 * The views read with the rights of their owner, so their readers see sums over votes and no voter.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  for (const statement of [...POLLS, ...SOURCES, ...COUNTS, ...ANOMALIES, ...OPERATIONS])
    await statement.execute(db);
}

const POLLS = [
  sql`
    create table polls_files (
      version int primary key,
      content jsonb not null,
      applied_at timestamptz not null default now()
    )`,
  sql`
    create table polls (
      no smallint generated always as identity primary key,
      id text collate "C" not null unique,
      question text not null,
      opens_at timestamptz,
      closes_at timestamptz,
      position int,
      results text not null default 'live' check (results in ('live', 'closed')),
      is_hidden boolean not null default false,
      retain_votes_days int,
      presentation jsonb not null default '{}',
      revision int not null default 1,
      closed_at timestamptz,
      final_at timestamptz,
      result jsonb,
      forgotten_at timestamptz,
      forgotten_to uuid,
      check (final_at is null or (closed_at is not null and result is not null))
    )`,
  sql`
    create table choices (
      poll_no smallint not null references polls,
      no smallint not null,
      id text collate "C" not null,
      label text not null,
      image text,
      position int,
      primary key (poll_no, no),
      unique (poll_no, id)
    )`,
  sql`
    create table images (
      name text collate "C" primary key,
      bytes bytea not null
    )`,
];

const SOURCES = [
  sql`
    create table nodes (
      id text collate "C" primary key,
      name text not null,
      enrolled_at timestamptz not null default now(),
      read_at timestamptz,
      read_since timestamptz,
      clock_skew_ms int,
      retiring_at timestamptz,
      retired_at timestamptz,
      written_off_at timestamptz,
      written_off_reason text
    )`,
  sql`
    create table sources (
      source text collate "C" primary key,
      node_id text collate "C" not null references nodes,
      accepted_seq bigint not null default 0,
      accepted_votes bigint not null default 0,
      target_seq bigint not null default 0,
      target_votes bigint not null default 0,
      folded_seq bigint not null default 0,
      folded_votes bigint not null default 0,
      folded_counted bigint not null default 0,
      folded_changed bigint not null default 0,
      folded_superseded bigint not null default 0,
      folded_rejected bigint not null default 0,
      compared_seq bigint not null default 0,
      unexplained_votes bigint not null default 0,
      written_off_votes bigint not null default 0,
      fenced_seq bigint,
      fenced_at timestamptz,
      fenced_poll_no smallint,
      check (compared_seq <= folded_seq and folded_seq <= target_seq)
    ) with (fillfactor = 50)`,
  sql`create index sources_node on sources (node_id)`,
  sql`
    create table receipts (
      source text collate "C" not null,
      seq bigint not null check (seq > 0),
      votes int not null default 0,
      counted int not null default 0,
      changed int not null default 0,
      superseded int not null default 0,
      rejected int not null default 0,
      committed_at timestamptz not null default now(),
      primary key (source, seq),
      check (votes = counted + changed + superseded + rejected)
    )`,
  sql`
    create table written_off_jobs (
      source text collate "C" not null references sources,
      seq bigint not null,
      reason text not null,
      at timestamptz not null default now(),
      primary key (source, seq)
    )`,
  sql`
    create table closings (
      poll_no smallint not null references polls,
      node_id text collate "C" not null references nodes,
      revision int not null,
      read_at timestamptz not null default now(),
      read_since timestamptz not null,
      primary key (poll_no, node_id)
    )`,
  sql`
    create table seals (
      poll_no smallint not null references polls,
      source text collate "C" not null references sources,
      revision int not null,
      seq bigint,
      primary key (poll_no, source)
    )`,
];

const COUNTS = [
  sql`
    create table votes (
      cast_us bigint not null,
      voter_id uuid not null,
      poll_no smallint not null,
      choice_no smallint not null,
      primary key (poll_no, voter_id)
    )`,
  sql`
    create table tallies (
      poll_no smallint not null,
      choice_no smallint not null,
      shard int not null,
      votes bigint not null,
      primary key (poll_no, choice_no, shard)
    ) with (fillfactor = 50)`,
  sql`
    create table rejected_votes (
      source text collate "C" not null,
      seq bigint not null,
      index int not null,
      reason text not null,
      vote jsonb not null,
      primary key (source, seq, index)
    )`,
  // By poll. A malformed vote has none: it is a text of any content, too long for an index.
  sql`create index rejected_votes_poll on rejected_votes ((vote ->> 0)) where reason <> 'malformed'`,
];

/*
 * The first 48 bits of a UUIDv7 are the milliseconds at which it was minted. Ids of other versions have no such time.
 * `date_part` returns a double, which is exact to the microsecond here and faster than the numeric of `extract`.
 */
const ANOMALIES = [
  // One pass over the votes. `delay_class` is the number of thresholds that the time from mint to vote has reached.
  sql`
    create view vote_times as
    select poll_no, cast_us / 60000000 as minute,
      case when uuid_extract_version(voter_id) = 7 then width_bucket(
        cast_us - round(date_part('epoch', uuid_extract_timestamp(voter_id)) * 1000)::bigint * 1000,
        array[0, 1000000, 10000000, 60000000, 600000000, 3600000000, 86400000000]
      ) end as delay_class,
      count(*) as votes
    from votes
    group by 1, 2, 3`,
  // Milliseconds in which several voters of a poll were minted. UUIDv7 sort by time, so the primary key delivers the voters of
  // a millisecond one after another, and the windows need neither a sort nor memory for all of them.
  sql`
    create view mint_bursts as
    select poll_no, minted_at, place - first_place + 1 as voters
    from (
      select *, max(case when is_first then place end) over (partition by poll_no order by voter_id rows unbounded preceding)
          as first_place
      from (
        select poll_no, voter_id, uuid_extract_timestamp(voter_id) as minted_at, row_number() over voter as place,
          uuid_extract_timestamp(voter_id) is distinct from lag(uuid_extract_timestamp(voter_id)) over voter as is_first,
          uuid_extract_timestamp(voter_id) is distinct from lead(uuid_extract_timestamp(voter_id)) over voter as is_last
        from votes
        where uuid_extract_version(voter_id) = 7
        window voter as (partition by poll_no order by voter_id)
      ) as placed
    ) as grouped
    where is_last and place > first_place`,
  // Voters who voted in one poll only, by that poll.
  sql`
    create view one_poll_voters as
    select poll_no, count(*) as voters
    from (select min(poll_no) as poll_no from votes group by voter_id having count(*) = 1) as voter
    group by poll_no`,
];

const OPERATIONS = [
  sql`
    create table operator_actions (
      at timestamptz not null default clock_timestamp(),
      who text not null,
      what text not null,
      why text not null,
      poll text collate "C"
    )`,
  sql`
    create table leases (
      name text collate "C" primary key,
      holder text not null,
      expires_at timestamptz not null
    )`,
];
