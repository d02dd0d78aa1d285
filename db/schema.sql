create table choices (
  poll_no smallint not null,
  no smallint not null,
  id text collate "C" not null,
  label text not null,
  image text,
  position integer,
  constraint choices_pkey PRIMARY KEY (poll_no, no),
  constraint choices_poll_no_fkey FOREIGN KEY (poll_no) REFERENCES polls(no),
  constraint choices_poll_no_id_key UNIQUE (poll_no, id)
);

create table closings (
  poll_no smallint not null,
  node_id text collate "C" not null,
  revision integer not null,
  read_at timestamp with time zone not null default now(),
  read_since timestamp with time zone not null,
  constraint closings_node_id_fkey FOREIGN KEY (node_id) REFERENCES nodes(id),
  constraint closings_pkey PRIMARY KEY (poll_no, node_id),
  constraint closings_poll_no_fkey FOREIGN KEY (poll_no) REFERENCES polls(no)
);

create table history (
  at timestamp with time zone not null,
  accepted bigint not null,
  constraint history_pkey PRIMARY KEY (at)
);

create table images (
  name text collate "C" not null,
  bytes bytea not null,
  constraint images_pkey PRIMARY KEY (name)
);

create table leases (
  name text collate "C" not null,
  holder text not null,
  expires_at timestamp with time zone not null,
  constraint leases_pkey PRIMARY KEY (name)
);

create table nodes (
  id text collate "C" not null,
  name text not null,
  enrolled_at timestamp with time zone not null default now(),
  read_at timestamp with time zone,
  read_since timestamp with time zone,
  clock_skew_ms integer,
  retiring_at timestamp with time zone,
  retired_at timestamp with time zone,
  written_off_at timestamp with time zone,
  written_off_reason text,
  constraint nodes_pkey PRIMARY KEY (id)
);

create table operator_actions (
  at timestamp with time zone not null default clock_timestamp(),
  who text not null,
  what text not null,
  why text not null,
  poll text collate "C"
);

create table polls (
  no smallint not null,
  id text collate "C" not null,
  question text not null,
  opens_at timestamp with time zone,
  closes_at timestamp with time zone,
  position integer,
  results text not null default 'live'::text,
  is_hidden boolean not null default false,
  retain_votes_days integer,
  presentation jsonb not null default '{}'::jsonb,
  revision integer not null default 1,
  closed_at timestamp with time zone,
  final_at timestamp with time zone,
  result jsonb,
  forgotten_at timestamp with time zone,
  forgotten_to uuid,
  constraint polls_check CHECK (((final_at IS NULL) OR ((closed_at IS NOT NULL) AND (result IS NOT NULL)))),
  constraint polls_id_key UNIQUE (id),
  constraint polls_pkey PRIMARY KEY (no),
  constraint polls_results_check CHECK ((results = ANY (ARRAY['live'::text, 'closed'::text])))
);

create table polls_files (
  version integer not null,
  content jsonb not null,
  applied_at timestamp with time zone not null default now(),
  constraint polls_files_pkey PRIMARY KEY (version)
);

create table receipts (
  source text collate "C" not null,
  seq bigint not null,
  votes integer not null default 0,
  counted integer not null default 0,
  changed integer not null default 0,
  superseded integer not null default 0,
  rejected integer not null default 0,
  committed_at timestamp with time zone not null default now(),
  constraint receipts_check CHECK ((votes = (((counted + changed) + superseded) + rejected))),
  constraint receipts_pkey PRIMARY KEY (source, seq),
  constraint receipts_seq_check CHECK ((seq > 0))
);

create table rejected_votes (
  source text collate "C" not null,
  seq bigint not null,
  index integer not null,
  reason text not null,
  vote jsonb not null,
  constraint rejected_votes_pkey PRIMARY KEY (source, seq, index)
);
CREATE INDEX rejected_votes_poll ON public.rejected_votes USING btree (((vote ->> 0))) WHERE (reason <> 'malformed'::text);

create table seals (
  poll_no smallint not null,
  source text collate "C" not null,
  revision integer not null,
  seq bigint,
  constraint seals_pkey PRIMARY KEY (poll_no, source),
  constraint seals_poll_no_fkey FOREIGN KEY (poll_no) REFERENCES polls(no),
  constraint seals_source_fkey FOREIGN KEY (source) REFERENCES sources(source)
);

create table sources (
  source text collate "C" not null,
  node_id text collate "C" not null,
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
  fenced_at timestamp with time zone,
  fenced_poll_no smallint,
  constraint sources_check CHECK (((compared_seq <= folded_seq) AND (folded_seq <= target_seq))),
  constraint sources_node_id_fkey FOREIGN KEY (node_id) REFERENCES nodes(id),
  constraint sources_pkey PRIMARY KEY (source)
) with (fillfactor=50);
CREATE INDEX sources_node ON public.sources USING btree (node_id);

create table tallies (
  poll_no smallint not null,
  choice_no smallint not null,
  shard integer not null,
  votes bigint not null,
  constraint tallies_pkey PRIMARY KEY (poll_no, choice_no, shard)
) with (fillfactor=50);

create table votes (
  cast_us bigint not null,
  voter_id uuid not null,
  poll_no smallint not null,
  choice_no smallint not null,
  constraint votes_pkey PRIMARY KEY (poll_no, voter_id)
);

create table written_off_jobs (
  source text collate "C" not null,
  seq bigint not null,
  reason text not null,
  at timestamp with time zone not null default now(),
  constraint written_off_jobs_pkey PRIMARY KEY (source, seq),
  constraint written_off_jobs_source_fkey FOREIGN KEY (source) REFERENCES sources(source)
);

create view mint_bursts as
 SELECT poll_no,
    minted_at,
    ((place - first_place) + 1) AS voters
   FROM ( SELECT placed.poll_no,
            placed.voter_id,
            placed.minted_at,
            placed.place,
            placed.is_first,
            placed.is_last,
            max(
                CASE
                    WHEN placed.is_first THEN placed.place
                    ELSE NULL::bigint
                END) OVER (PARTITION BY placed.poll_no ORDER BY placed.voter_id ROWS UNBOUNDED PRECEDING) AS first_place
           FROM ( SELECT votes.poll_no,
                    votes.voter_id,
                    uuid_extract_timestamp(votes.voter_id) AS minted_at,
                    row_number() OVER voter AS place,
                    (uuid_extract_timestamp(votes.voter_id) IS DISTINCT FROM lag(uuid_extract_timestamp(votes.voter_id)) OVER voter) AS is_first,
                    (uuid_extract_timestamp(votes.voter_id) IS DISTINCT FROM lead(uuid_extract_timestamp(votes.voter_id)) OVER voter) AS is_last
                   FROM votes
                  WHERE (uuid_extract_version(votes.voter_id) = 7)
                  WINDOW voter AS (PARTITION BY votes.poll_no ORDER BY votes.voter_id)) placed) grouped
  WHERE (is_last AND (place > first_place));

create view one_poll_voters as
 SELECT poll_no,
    count(*) AS voters
   FROM ( SELECT min(votes.poll_no) AS poll_no
           FROM votes
          GROUP BY votes.voter_id
         HAVING (count(*) = 1)) voter
  GROUP BY poll_no;

create view vote_times as
 SELECT poll_no,
    (cast_us / 60000000) AS minute,
        CASE
            WHEN (uuid_extract_version(voter_id) = 7) THEN width_bucket((cast_us - ((round((date_part('epoch'::text, uuid_extract_timestamp(voter_id)) * (1000)::double precision)))::bigint * 1000)), ARRAY[(0)::bigint, (1000000)::bigint, (10000000)::bigint, (60000000)::bigint, (600000000)::bigint, '3600000000'::bigint, '86400000000'::bigint])
            ELSE NULL::integer
        END AS delay_class,
    count(*) AS votes
   FROM votes
  GROUP BY poll_no, (cast_us / 60000000),
        CASE
            WHEN (uuid_extract_version(voter_id) = 7) THEN width_bucket((cast_us - ((round((date_part('epoch'::text, uuid_extract_timestamp(voter_id)) * (1000)::double precision)))::bigint * 1000)), ARRAY[(0)::bigint, (1000000)::bigint, (10000000)::bigint, (60000000)::bigint, (600000000)::bigint, '3600000000'::bigint, '86400000000'::bigint])
            ELSE NULL::integer
        END;
