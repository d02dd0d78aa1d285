import { join } from 'node:path';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { migrate } from '#db/migrate.ts';
import { upsertPolls } from '#db/polls.ts';
import { ROOT } from '#dev/root.ts';
import { checkPostgres, postgresCommand, postgresUrl, preparePostgres } from '#dev/start/postgres-server.ts';
import { readPolls } from '#runtime/polls.ts';
import { openTestDb } from './postgres.ts';
import { freePort, scratchFolder, startProgram } from './process.ts';
import { until } from './until.ts';

const PASSWORD = 'test';
const TEMPLATE = 'turnout_template';
const POLLS_FILE = join(ROOT, 'stack/polls.json');

/** Starts one Postgres for all test files of a project, with a template database that each file clones. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = await scratchFolder();
  const dataDir = join(folder.path, 'postgres');
  await preparePostgres(dataDir, PASSWORD);
  const port = await freePort();
  // The tests kill processes, never the machine, so the page cache survives and fsync is not needed.
  const extra = ['-c', 'fsync=off', '-c', 'max_connections=200'];
  const { command, args } = await postgresCommand({ dataDir, port, extra });
  const server = startProgram(command, args, { log: join(folder.path, 'postgres.log') });
  const at = { port, password: PASSWORD, user: 'postgres', database: 'postgres' } as const;
  await until('Postgres is ready', async () => (await checkPostgres(postgresUrl(at))) === undefined);

  const client = new pg.Client({ connectionString: postgresUrl(at) });
  await client.connect();
  await client.query(`create database ${TEMPLATE}`);
  await client.end();
  const db = openTestDb(postgresUrl({ ...at, database: TEMPLATE }));
  await migrate(db);
  await upsertPolls(db, readPolls(POLLS_FILE));
  await db.destroy();

  project.provide('postgresUrl', postgresUrl(at));
  project.provide('templateDatabase', TEMPLATE);
  return async () => {
    await server.end('SIGINT');
    await folder.remove();
  };
}
