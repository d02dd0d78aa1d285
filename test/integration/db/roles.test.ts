import { randomBytes } from 'node:crypto';
import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { collectAnomalies } from '#audit/anomalies.ts';
import { auditLateVotes, auditSources, auditTallies, knownSources } from '#db/audit.ts';
import type { Db } from '#db/client.ts';
import { commitBatches } from '#db/commit.ts';
import { closePoll, openPoll } from '#db/control.ts';
import { readAwaited } from '#db/final.ts';
import { grantReaders } from '#db/grants.ts';
import { migrate } from '#db/migrate.ts';
import { readNodes, requestRetirement, writeOffNode } from '#db/nodes.ts';
import { readPollStates } from '#db/poll-states.ts';
import { applyPollsFile } from '#db/polls.ts';
import { readReceipt, readResults } from '#db/results.ts';
import { writeOffJobs } from '#db/write-off.ts';
import { recordLog } from '#kit/log.ts';
import { createDatabase, openTestDb, type TestDatabase } from '#kit/postgres.ts';
import { applyRoles, createRoleUrls, type Role } from '#kit/roles.ts';
import { mirrorEntry } from '#kit/tables.ts';
import { batch, NODE, POLL, SOURCE, vote } from '#kit/votes.ts';
import { Readiness } from '#runtime/readiness.ts';
import { Shutdown } from '#runtime/shutdown.ts';
import { prepareDatabase } from '#workers/prepare-database.ts';

const TABLES = [
  ...[
    'polls_files',
    'polls',
    'choices',
    'images',
    'nodes',
    'sources',
    'history',
    'receipts',
    'closings',
    'seals',
    'votes',
    'tallies',
  ],
  ...['written_off_jobs', 'rejected_votes', 'operator_actions', 'leases'],
];
const POLLS = {
  version: 1,
  images: new Map(),
  polls: [
    { id: POLL, question: 'Cats or dogs?', choices: ['cats', 'dogs'].map((id) => ({ id, label: id })) },
  ],
};
const OPERATOR = { who: 'ada', why: 'it moves' };
const NOT_ALLOWED = /permission denied|must be owner/;

let database: TestDatabase;
let ownerUrl: string;
let as: Readonly<Record<Role, Db>>;

/** As on a real server: the owner of the database is not a superuser, and the worker creates the tables. */
beforeAll(async () => {
  database = await createDatabase('template1');
  ownerUrl = await createOwner();
  await applyRoles(ownerUrl);
  const urls = await createRoleUrls(ownerUrl);
  as = {
    turnout_worker: openTestDb(urls.turnout_worker),
    turnout_results: openTestDb(urls.turnout_results),
    turnout_dashboard: openTestDb(urls.turnout_dashboard),
    turnout_audit: openTestDb(urls.turnout_audit),
  };
  await migrate(as.turnout_worker);
  await grantReaders(as.turnout_worker);
  await applyPollsFile(as.turnout_worker, POLLS);
  await mirrorEntry(as.turnout_worker, SOURCE, { seq: 0, votes: 0 });
  await commitBatches(as.turnout_worker, [batch(1, [vote(1, 'cats', 0), vote(2, 'birds', 0)], SOURCE)], 0);
  await mirrorEntry(as.turnout_worker, SOURCE, { seq: 2, votes: 3 });
});
afterAll(async () => {
  await Promise.all(Object.values(as ?? {}).map((db) => db.destroy()));
  await database.remove();
});

async function createOwner(): Promise<string> {
  const url = new URL(database.url);
  url.username = `owner_${randomBytes(6).toString('hex')}`;
  url.password = randomBytes(12).toString('hex');
  await sql
    .raw(`create role ${url.username} login createrole password '${url.password}'`)
    .execute(database.db);
  await sql.raw(`alter database ${url.pathname.slice(1)} owner to ${url.username}`).execute(database.db);
  return url.href;
}

const run = (role: Role, statement: string) => sql.raw(statement).execute(as[role]);

test('the worker migrates, commits and mirrors without superuser rights', async () => {
  expect(await migrate(as.turnout_worker)).toEqual({ applied: [], unknown: [] });
  const rows = await sql<{ is: boolean }>`select rolsuper as is from pg_roles where rolname = current_user`
    .execute(as.turnout_worker)
    .then(({ rows }) => rows);
  expect(rows).toEqual([{ is: false }]);
  expect(await as.turnout_worker.selectFrom('rejected_votes').selectAll().execute()).toHaveLength(1);
});

test('the test covers every table', async () => {
  const { rows } = await sql<{ name: string }>`
    select relname as name from pg_class
    where relnamespace = 'public'::regnamespace and relkind = 'r' and relname not like 'kysely%'
    order by relname
  `.execute(database.db);
  expect(rows.map(({ name }) => name)).toEqual(TABLES.toSorted());
});

test('the results role reads results and receipts', async () => {
  const { polls, ledger } = await readResults(as.turnout_results);
  expect(polls[0]?.choices?.map(({ votes }) => votes)).toEqual([1, 0]);
  expect(ledger).toEqual({ accepted: 3, committed: 2 });
  expect(await readReceipt(as.turnout_results, `${SOURCE}.1`)).toBe('counted');
  expect(await readReceipt(as.turnout_results, `${SOURCE}.2`)).toBe('pending');
});

test('the dashboard and audit roles audit sources and nodes', async () => {
  for (const db of [as.turnout_dashboard, as.turnout_audit]) {
    expect(await auditSources(db)).toMatchObject([{ source: SOURCE, counted: 1, rejected: 1, missing: [2] }]);
    expect(await knownSources(db)).toEqual(new Set([SOURCE]));
    expect(await readNodes(db)).toMatchObject([{ id: NODE, uncountedVotes: 1 }]);
    expect(await readAwaited(db)).toEqual(new Map());
  }
});

test('of the readers, only the dashboard role requests retirements and write-offs', async () => {
  for (const request of [requestRetirement, writeOffNode]) {
    expect(await request(as.turnout_dashboard, NODE, OPERATOR)).toBe('done');
    for (const role of ['turnout_results', 'turnout_audit'] as const) {
      await expect(request(as[role], NODE, OPERATOR)).rejects.toThrow(NOT_ALLOWED);
    }
  }
  const changed = await as.turnout_worker.selectFrom('nodes').selectAll().execute();
  expect(changed).toMatchObject([{ retired_at: null, written_off_reason: OPERATOR.why }]);
});

test('of the readers, only the dashboard role writes off jobs', async () => {
  const jobs = [{ source: SOURCE, seq: 2 }];
  for (const role of ['turnout_results', 'turnout_audit'] as const) {
    await expect(writeOffJobs(as[role], jobs, OPERATOR)).rejects.toThrow(NOT_ALLOWED);
  }
  expect(await writeOffJobs(as.turnout_dashboard, jobs, OPERATOR)).toEqual({ outcome: 'done' });
  expect(await readReceipt(as.turnout_results, `${SOURCE}.2`)).toBe('written_off');
});

test('of the readers, only the dashboard role changes polls, and it records why', async () => {
  for (const change of [closePoll, openPoll]) {
    expect(await change(as.turnout_dashboard, POLL, OPERATOR)).toEqual({ outcome: 'done' });
    for (const role of ['turnout_results', 'turnout_audit'] as const) {
      await expect(change(as[role], POLL, OPERATOR)).rejects.toThrow(NOT_ALLOWED);
    }
  }
  const [state] = await readPollStates(as.turnout_dashboard);
  expect(state).toMatchObject({ closedAt: null, change: { ...OPERATOR, what: 'open' } });
});

test.each([
  `insert into receipts (source, seq, votes, counted) values ('${SOURCE}', 3, 1, 1)`,
  "update receipts set source = 'x'",
  "update written_off_jobs set reason = 'x'",
  "insert into written_off_jobs (source, seq, reason, at) values ('x', 1, 'x', now())",
  "insert into operator_actions (at, who, what, why) values (now(), 'x', 'x', 'x')",
  'update polls set final_at = now()',
  "update polls set result = '{}'",
  "update polls set question = 'x'",
  'update polls set is_hidden = true',
  'delete from polls',
  'delete from votes',
  'update nodes set retired_at = now()',
  "update nodes set name = 'x'",
  'update nodes set read_at = now()',
  "insert into nodes (id, name) values ('x', 'x')",
  "update operator_actions set who = 'x'",
  'delete from operator_actions',
])('the dashboard role may not: %s', async (statement) => {
  await expect(run('turnout_dashboard', statement)).rejects.toThrow(NOT_ALLOWED);
});

test('of the readers, only the audit role recounts votes, without reading voters', async () => {
  expect(await auditTallies(as.turnout_audit)).toEqual([]);
  expect(await auditLateVotes(as.turnout_audit)).toEqual(new Map());
  await expect(run('turnout_audit', 'select vote from rejected_votes')).rejects.toThrow(NOT_ALLOWED);
  await expect(run('turnout_audit', 'select voter_id from votes')).rejects.toThrow(NOT_ALLOWED);
  await expect(run('turnout_audit', 'select * from votes')).rejects.toThrow(NOT_ALLOWED);
  await expect(run('turnout_audit', 'select cast_us from votes')).rejects.toThrow(NOT_ALLOWED);
  for (const role of ['turnout_results', 'turnout_dashboard'] as const) {
    await expect(auditTallies(as[role])).rejects.toThrow(NOT_ALLOWED);
  }
});

test('of the readers, only the dashboard and audit roles read how votes came in, as sums without voters', async () => {
  for (const role of ['turnout_dashboard', 'turnout_audit'] as const) {
    const { polls } = await collectAnomalies({ db: as[role], msMax: 10_000 });
    expect(polls).toMatchObject([{ poll: POLL, times: { votes: 1, withoutMintTime: 0 } }]);
    await expect(run(role, 'select voter_id from votes')).rejects.toThrow(NOT_ALLOWED);
  }
  const views = await sql<{ name: string }>`
    select relname as name from pg_class where relnamespace = 'public'::regnamespace and relkind = 'v'
  `.execute(database.db);
  expect(views.rows.length).toBe(3);
  for (const { name } of views.rows) {
    await expect(run('turnout_results', `select * from ${name}`)).rejects.toThrow(NOT_ALLOWED);
    for (const role of ['turnout_dashboard', 'turnout_audit'] as const)
      await expect(run(role, `create or replace view ${name} as select 1`)).rejects.toThrow(NOT_ALLOWED);
  }
});

describe.each<[Role, readonly string[]]>([
  ['turnout_results', ['polls', 'choices', 'tallies', 'sources', 'history', 'receipts', 'written_off_jobs']],
  [
    'turnout_dashboard',
    [
      ...['polls', 'nodes', 'sources', 'receipts', 'written_off_jobs', 'closings', 'seals'],
      'operator_actions',
    ],
  ],
  [
    'turnout_audit',
    [
      ...['polls', 'choices', 'tallies', 'nodes', 'sources', 'receipts', 'written_off_jobs'],
      ...['closings', 'seals'],
    ],
  ],
])('%s', (role, readable) => {
  test.each(TABLES)('has no privilege on %s beyond those granted', async (table) => {
    const read = run(role, `select * from ${table} limit 1`);
    if (readable.includes(table)) await expect(read).resolves.toBeDefined();
    else await expect(read).rejects.toThrow(NOT_ALLOWED);
    const column = await firstColumn(table);
    const changes: readonly string[] =
      role === 'turnout_dashboard' ? ['nodes', 'operator_actions', 'receipts', 'written_off_jobs'] : [];
    for (const statement of [
      // See the test of what the dashboard role may not change in these.
      ...(changes.includes(table)
        ? []
        : [
            `insert into ${table} default values`,
            `update ${table} set ${column} = ${column}`,
            `do 'begin lock table ${table} in share mode; end'`,
          ]),
      `delete from ${table}`,
      `truncate ${table}`,
      `alter table ${table} add column x int`,
      `drop table ${table}`,
      `create index on ${table} (${column})`,
    ]) {
      await expect(run(role, statement), statement).rejects.toThrow(NOT_ALLOWED);
    }
  });

  test('creates nothing and assumes no other role', async () => {
    for (const statement of [
      'create table x (y int)',
      'create temporary table x (y int)',
      'create function x() returns int language sql as $$select 1$$',
      'create schema x',
      'set role turnout_worker',
      'create role x',
      `alter role turnout_worker password 'x'`,
      'select * from kysely_migration',
      'select rolpassword from pg_authid',
      `select pg_read_file('PG_VERSION')`,
      `copy (select 1) to program 'true'`,
    ]) {
      await expect(run(role, statement), statement).rejects.toThrow(/permission denied/);
    }
  });

  test('cannot read a table added later', async () => {
    await run('turnout_worker', 'create table later (y int)');
    try {
      await expect(run(role, 'select * from later')).rejects.toThrow(NOT_ALLOWED);
      await grantReaders(as.turnout_worker);
      await expect(run(role, 'select * from later')).rejects.toThrow(NOT_ALLOWED);
    } finally {
      await run('turnout_worker', 'drop table later');
    }
  });
});

/** Returns a column that an update may set. */
async function firstColumn(table: string): Promise<string> {
  const { rows } = await sql<{ name: string }>`
    select attname as name from pg_attribute
    where attrelid = ${table}::regclass and attnum > 0 and attidentity = ''
    order by attnum
    limit 1
  `.execute(database.db);
  return rows[0]?.name ?? '';
}

test('a worker revokes privileges granted by hand when it starts', async () => {
  await run('turnout_worker', 'grant all on votes, tallies, vote_times to turnout_results, public');
  await run('turnout_worker', 'grant select (voter_id) on votes to turnout_dashboard');
  await grantReaders(as.turnout_worker);
  await expect(run('turnout_results', 'select * from votes')).rejects.toThrow(NOT_ALLOWED);
  await expect(run('turnout_results', 'select * from vote_times')).rejects.toThrow(NOT_ALLOWED);
  await expect(run('turnout_results', 'delete from tallies')).rejects.toThrow(NOT_ALLOWED);
  await expect(run('turnout_dashboard', 'select voter_id from votes')).rejects.toThrow(NOT_ALLOWED);
  expect((await readResults(as.turnout_results)).polls).toHaveLength(1);
});

test('a worker older than the schema leaves the grants of the newer one alone', async () => {
  await run('turnout_worker', 'create table newer (y int)');
  await run('turnout_worker', 'grant select on newer to turnout_results');
  await run(
    'turnout_worker',
    `insert into kysely_migration values ('9999_newer', '2030-01-01T00:00:00.000Z')`,
  );
  try {
    const { log, lines } = recordLog();
    const readiness = new Readiness('postgres');
    await prepareDatabase(as.turnout_worker, POLLS, readiness, { log, shutdown: new Shutdown(log) });
    expect(readiness.isReady).toBe(true);
    expect(lines).toEqual([
      expect.objectContaining({ level: 'warn', message: 'schema is newer', migrations: ['9999_newer'] }),
    ]);
    await expect(run('turnout_results', 'select * from newer')).resolves.toBeDefined();
  } finally {
    await run('turnout_worker', `delete from kysely_migration where name = '9999_newer'`);
    await run('turnout_worker', 'drop table newer');
  }
});

test('concurrent grants succeed, and roles.sql is idempotent', async () => {
  await Promise.all(Array.from({ length: 8 }, () => grantReaders(as.turnout_worker)));
  await applyRoles(ownerUrl);
  expect((await readResults(as.turnout_results)).polls).toHaveLength(1);
});

test('roles.sql hands tables created before it to the worker', async () => {
  const old = await createDatabase();
  try {
    await applyRoles(old.url);
    const urls = await createRoleUrls(old.url);
    const worker = openTestDb(urls.turnout_worker);
    const results = openTestDb(urls.turnout_results);
    try {
      expect((await migrate(worker)).applied).toEqual([]);
      await grantReaders(worker);
      await commitBatches(worker, [batch(1, [vote(1, 'cats', 0)], SOURCE)], 0);
      expect((await readResults(results)).ledger.committed).toBe(1);
    } finally {
      await Promise.all([worker.destroy(), results.destroy()]);
    }
  } finally {
    await old.remove();
  }
});
