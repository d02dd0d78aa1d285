create table batches (
  source text collate "C" not null,
  seq bigint not null,
  votes integer not null,
  counted integer not null,
  changed integer not null,
  superseded integer not null,
  rejected integer not null,
  committed_at timestamp with time zone not null default now(),
  constraint batches_check CHECK ((votes = (((counted + changed) + superseded) + rejected))),
  constraint batches_pkey PRIMARY KEY (source, seq),
  constraint batches_seq_check CHECK ((seq > 0))
);

create table choices (
  poll_id text collate "C" not null,
  id text collate "C" not null,
  label text not null,
  position integer not null,
  constraint choices_pkey PRIMARY KEY (poll_id, id),
  constraint choices_poll_id_fkey FOREIGN KEY (poll_id) REFERENCES polls(id)
);

create table committed (
  source text collate "C" not null,
  shard integer not null,
  jobs bigint not null,
  votes bigint not null,
  constraint committed_pkey PRIMARY KEY (source, shard)
) with (fillfactor=50);

create table leases (
  name text collate "C" not null,
  holder text not null,
  expires_at timestamp with time zone not null,
  constraint leases_pkey PRIMARY KEY (name)
);

create table ledgers (
  source text collate "C" not null,
  node text not null,
  accepted_seq bigint not null,
  accepted_votes bigint not null,
  observed_at timestamp with time zone not null,
  constraint ledgers_pkey PRIMARY KEY (source)
) with (fillfactor=50);

create table polls (
  id text collate "C" not null,
  question text not null,
  opens_at timestamp with time zone,
  closes_at timestamp with time zone,
  position integer,
  constraint polls_pkey PRIMARY KEY (id)
);

create table rejected_votes (
  source text collate "C" not null,
  seq bigint not null,
  index integer not null,
  reason text not null,
  vote jsonb not null,
  constraint rejected_votes_pkey PRIMARY KEY (source, seq, index)
);

create table retired_nodes (
  node text collate "C" not null,
  retired_at timestamp with time zone not null default now(),
  constraint retired_nodes_pkey PRIMARY KEY (node)
);

create table tallies (
  poll_id text collate "C" not null,
  choice_id text collate "C" not null,
  shard integer not null,
  votes bigint not null,
  constraint tallies_pkey PRIMARY KEY (poll_id, choice_id, shard)
) with (fillfactor=50);

create table votes (
  poll_id text collate "C" not null,
  voter_id uuid not null,
  choice_id text collate "C" not null,
  cast_at timestamp with time zone not null,
  constraint votes_pkey PRIMARY KEY (poll_id, voter_id)
);
