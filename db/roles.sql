-- Creates the database roles. Run it once before the first worker starts, as the owner of the database, who needs the right
-- to create roles but need not be a superuser:
--
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f db/roles.sql
--
-- It is idempotent. The worker creates the tables, and grants the readers their privileges each time it starts
-- (db/grants.ts). No role can log in until it has a password: alter role turnout_results password '…'; and so on.
--
--   turnout_worker     owns, migrates and writes the tables
--   turnout_results    reads counts, sources and receipts of jobs, but no votes
--   turnout_dashboard  reads nodes, sources and receipts of jobs, and sums over votes for the anomaly report, requests
--                      retirements and write-offs of nodes, changes when polls open and close, and writes off jobs: it can
--                      add receipts, but only without votes
--   turnout_audit      for npm run audit: reads what the dashboard reads, the tallies, and poll and choice of the votes for
--                      a recount, but no voters
--
-- A DO block is one statement and therefore one transaction.
do $$
declare
  tables constant text[] := array[
    'polls_files', 'polls', 'choices', 'images', 'nodes', 'sources', 'history', 'receipts', 'written_off_jobs', 'closings',
    'seals', 'votes', 'tallies', 'rejected_votes', 'operator_actions', 'leases', 'vote_times', 'mint_bursts',
    'one_poll_voters', 'kysely_migration', 'kysely_migration_lock'
  ];
  readers constant text[] := array['turnout_results', 'turnout_dashboard', 'turnout_audit'];
  name text;
begin
  foreach name in array 'turnout_worker'::text || readers loop
    if not exists (select from pg_roles where rolname = name) then
      execute format('create role %I login nosuperuser nocreatedb nocreaterole', name);
    end if;
  end loop;
  -- Granting on the worker's tables, and taking over older ones, requires membership. A superuser has it implicitly.
  if not (pg_has_role(current_user, 'turnout_worker', 'usage') and pg_has_role(current_user, 'turnout_worker', 'set')) then
    execute format('grant turnout_worker to %I with inherit true, set true', current_user);
  end if;

  execute format('revoke all on database %I from public', current_database());
  revoke all on schema public from public;
  foreach name in array 'turnout_worker'::text || readers loop
    execute format('grant connect on database %I to %I', current_database(), name);
    execute format('grant usage on schema public to %I', name);
  end loop;
  grant create on schema public to turnout_worker;

  -- Tables and views created before the roles existed change owner; a view reads with the rights of its owner.
  for name in
    select relname from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'v') and relname = any (tables)
      and relowner <> 'turnout_worker'::regrole
  loop
    execute format('alter table public.%I owner to turnout_worker', name);
  end loop;

  -- Tables that grants.ts does not list stay private to the worker.
  foreach name in array 'public'::text || readers loop
    execute format(
      'alter default privileges for role turnout_worker in schema public revoke all on tables from %s', name
    );
  end loop;
end
$$;
