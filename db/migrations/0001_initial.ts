import { type Kysely, sql } from 'kysely';

/**
 * Creates the tables. Ids use `collate "C"`, a comparison by bytes, so that ties between votes break the same way
 * everywhere. `votes` has no foreign keys: the commit validates against `choices`, and a trigger per row would cost more
 * than the insert. Only `commit.ts` and `replay.ts` write to `batches` and `votes`.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  const statements = [
    sql`
      create table polls (
        id text collate "C" primary key,
        question text not null,
        opens_at timestamptz,
        closes_at timestamptz,
        position int
      )`,
    sql`
      create table choices (
        poll_id text collate "C" not null references polls,
        id text collate "C" not null,
        label text not null,
        position int not null,
        primary key (poll_id, id)
      )`,
    sql`
      create table votes (
        poll_id text collate "C" not null,
        voter_id uuid not null,
        choice_id text collate "C" not null,
        cast_at timestamptz not null,
        primary key (poll_id, voter_id)
      )`,
    sql`
      create table batches (
        source text collate "C" not null,
        seq bigint not null check (seq > 0),
        votes int not null,
        counted int not null,
        changed int not null,
        superseded int not null,
        rejected int not null,
        committed_at timestamptz not null default now(),
        primary key (source, seq),
        check (votes = counted + changed + superseded + rejected)
      )`,
    sql`
      create table tallies (
        poll_id text collate "C" not null,
        choice_id text collate "C" not null,
        shard int not null,
        votes bigint not null,
        primary key (poll_id, choice_id, shard)
      ) with (fillfactor = 50)`,
    sql`
      create table committed (
        source text collate "C" not null,
        shard int not null,
        jobs bigint not null,
        votes bigint not null,
        primary key (source, shard)
      ) with (fillfactor = 50)`,
    sql`
      create table ledgers (
        source text collate "C" primary key,
        node text not null,
        accepted_seq bigint not null,
        accepted_votes bigint not null,
        observed_at timestamptz not null
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
  ];
  for (const statement of statements) await statement.execute(db);
}
