-- Who may do what in the database. Run by the database's owner, who may create roles and need not be a superuser:
--
--   psql "$DATABASE_URL" -v ON_ERROR_STOP=1 -f db/roles.sql
--
-- once before the first worker starts, so that it may make the tables, and again after it has, and after every upgrade,
-- so that the others may read them. Running it again changes nothing else. It sets no passwords, and without one nobody
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
    'polls', 'choices', 'votes', 'batches', 'tallies', 'committed', 'ledgers', 'rejected_votes',
    'kysely_migration', 'kysely_migration_lock'
  ];
  readers constant text[] := array['turnout_results', 'turnout_dashboard', 'turnout_audit'];
  columns_of_votes constant text := 'poll_id, choice_id';
  name text;
  may_read record;
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

  -- A table that nobody thought of here is read by nobody but the worker: so it stays when one is added.
  foreach name in array 'public'::text || readers loop
    execute format('revoke all on all tables in schema public from %s', name);
    execute format(
      'alter default privileges for role turnout_worker in schema public revoke all on tables from %s', name
    );
  end loop;
  for may_read in
    select role, relation
    from (values
      ('turnout_results', array['polls', 'choices', 'tallies', 'committed', 'ledgers', 'batches']),
      ('turnout_dashboard', array['committed', 'ledgers', 'batches']),
      ('turnout_audit', array['committed', 'ledgers', 'batches', 'tallies'])
    ) as grants (role, relations)
    cross join unnest(relations) as relation
    where to_regclass('public.' || relation) is not null
  loop
    execute format('grant select on public.%I to %I', may_read.relation, may_read.role);
  end loop;
  if to_regclass('public.votes') is not null then
    execute format('revoke select (%s) on public.votes from %s', columns_of_votes, array_to_string(readers, ', '));
    execute format('grant select (%s) on public.votes to turnout_audit', columns_of_votes);
  end if;
end
$$;
