-- Who may do what in the database. Run by the database's owner, who may create roles and need not be a superuser:
--
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f db/roles.sql
--
-- once, before the first worker starts. The worker makes the tables, and each time it starts it gives the others the right
-- to read what they need (db/grants.ts). Running this again changes nothing. It sets no passwords, and without one nobody
-- gets in: alter role turnout_results password '…'; and so on.
--
--   turnout_worker     makes, changes and owns the tables; the only one that writes
--   turnout_results    reads counts, ledgers and receipts of jobs; it cannot see a single vote
--   turnout_dashboard  reads ledgers and receipts of jobs
--   turnout_audit      for npm run audit: what the dashboard reads, the tallies, and of the votes poll and choice, which
--                      is all that a recount needs; it cannot see who voted
--
-- All of it happens in one transaction, because a DO block is one statement.
do $$
declare
  tables constant text[] := array[
    'polls', 'choices', 'votes', 'batches', 'tallies', 'committed', 'ledgers', 'rejected_votes', 'retired_nodes',
    'kysely_migration', 'kysely_migration_lock'
  ];
  readers constant text[] := array['turnout_results', 'turnout_dashboard', 'turnout_audit'];
  name text;
begin
  foreach name in array 'turnout_worker'::text || readers loop
    if not exists (select from pg_roles where rolname = name) then
      execute format('create role %I login nosuperuser nocreatedb nocreaterole', name);
    end if;
  end loop;
  -- Only who has the worker's rights may say who else reads the worker's tables. A superuser has them anyway.
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

  -- Tables from before there were roles belong to whoever made them.
  for name in
    select relname from pg_class
    where relnamespace = 'public'::regnamespace and relkind = 'r' and relname = any (tables)
      and relowner <> 'turnout_worker'::regrole
  loop
    execute format('alter table public.%I owner to turnout_worker', name);
  end loop;

  -- A table that nobody thought of is read by nobody but the worker.
  foreach name in array 'public'::text || readers loop
    execute format(
      'alter default privileges for role turnout_worker in schema public revoke all on tables from %s', name
    );
  end loop;
end
$$;
