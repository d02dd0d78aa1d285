import { join } from 'node:path';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { migrate } from '#db/migrate.ts';
import { applyPollsFile } from '#db/polls.ts';
import { ROOT } from '#dev/root.ts';
import { readPollsFile } from '#runtime/polls.ts';
import { openTestDb } from './postgres.ts';
import { startPostgres } from './postgres-server.ts';

const TEMPLATE = 'turnout_template';
const POLLS_FILE = join(ROOT, 'stack/polls.json');

/** Starts one Postgres for all test files of a project, with a template database that each file clones. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const postgres = await startPostgres();
  const client = new pg.Client({ connectionString: postgres.url });
  await client.connect();
  await client.query(`create database ${TEMPLATE}`);
  await client.end();
  const url = new URL(postgres.url);
  url.pathname = `/${TEMPLATE}`;
  const db = openTestDb(url.href);
  await migrate(db);
  await applyPollsFile(db, readPollsFile(POLLS_FILE));
  await db.destroy();

  project.provide('postgresUrl', postgres.url);
  project.provide('templateDatabase', TEMPLATE);
  return postgres.remove;
}
