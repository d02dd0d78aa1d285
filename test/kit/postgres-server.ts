import { join } from 'node:path';
import { checkPostgres, postgresCommand, postgresUrl, preparePostgres } from '#dev/start/postgres-server.ts';
import { freePort, scratchFolder, startProgram } from './process.ts';
import { until } from './until.ts';

const PASSWORD = 'test';

/** A Postgres server with its data. */
export interface TestPostgres {
  /** Superuser URL of its database `postgres`. */
  readonly url: string;
  /** Stops the server and deletes its data. */
  remove(): Promise<void>;
}

/** Starts a Postgres as durable as in production, because workers refuse any other. */
export async function startPostgres(): Promise<TestPostgres> {
  const folder = await scratchFolder();
  const dataDir = join(folder.path, 'postgres');
  await preparePostgres(dataDir, PASSWORD);
  const port = await freePort();
  const { command, args } = await postgresCommand({ dataDir, port, extra: ['-c', 'max_connections=200'] });
  const server = startProgram(command, args, { log: join(folder.path, 'postgres.log') });
  const url = postgresUrl({ port, password: PASSWORD, user: 'postgres', database: 'postgres' });
  await until('Postgres is ready', async () => (await checkPostgres(url)) === undefined);
  return {
    url,
    remove: async () => {
      await server.end('SIGINT');
      await folder.remove();
    },
  };
}
