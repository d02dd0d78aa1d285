import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { type Db, openDb } from '../../db/client.ts';
import { migrate } from '../../db/migrate.ts';
import { upsertPolls } from '../../db/polls.ts';
import { checkPostgres, postgresCommand, postgresUrl, preparePostgres } from '../../stack/local/postgres.ts';
import { readPolls } from '../../stack/runtime/polls.ts';
import { freePort, scratchFolder, startNode, startProgram } from '../../test/support/process.ts';
import { startRedis, type TestRedis } from '../../test/support/redis.ts';
import { type ServiceOptions, startService, type TestService, voteEnv } from '../../test/support/system.ts';
import { until } from '../../test/support/until.ts';
import { baselineBundle } from '../build.ts';
import { type Load, startLoad } from '../load/client.ts';
import type { Component } from '../measure/cpu.ts';

const ROOT = join(import.meta.dirname, '../..');
/** Backlogs may be larger than what a node normally holds. */
const REDIS_EXTRA = ['--maxmemory', '8gb'];
const PASSWORD = 'bench';

/** A Postgres that runs, with the schema and the polls. */
export interface LabPostgres {
  readonly url: string;
  readonly db: Db;
  readonly component: Component;
}

/** Something that listens on a port. */
export interface LabServer {
  readonly port: number;
  readonly component: Component;
  /** Ends it before its lab is closed. */
  close(): Promise<unknown>;
}

/** Every lab that is open, for whoever must leave in a hurry. */
const open = new Set<Lab>();

/** Ends everything that any lab started. */
export async function closeAllLabs(): Promise<void> {
  await Promise.all([...open].map((lab) => lab.close()));
}

/**
 * Starts real parts and ends them all, last first. Every round has a lab of its own, so that no side inherits
 * anything from the one before.
 */
export class Lab {
  readonly #folder: string;
  readonly #cleanups: (() => Promise<unknown>)[] = [];

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Opens a lab, works in it, and closes it whatever happens. */
  static async use<T>(work: (lab: Lab) => Promise<T>): Promise<T> {
    const folder = await scratchFolder();
    const lab = new Lab(folder.path);
    lab.#cleanups.push(folder.remove);
    open.add(lab);
    try {
      return await work(lab);
    } finally {
      await lab.close();
    }
  }

  async close(): Promise<void> {
    open.delete(this);
    for (const cleanup of this.#cleanups.splice(0).toReversed()) await cleanup();
  }

  /** A node's Redis: append-only, fsync after every write. */
  async startRedis(): Promise<TestRedis & { readonly component: Component }> {
    const redis = await startRedis(REDIS_EXTRA);
    this.#cleanups.push(redis.remove);
    return Object.assign(redis, { component: { part: 'redis', pid: pidOf(redis.process) } });
  }

  /** Our own vote handler on a node. */
  async startHandler(node: string, socket: string, env: Record<string, string> = {}): Promise<LabServer> {
    return this.#startBundle({ bundle: 'vote', name: node, env: { ...voteEnv(node, socket), ...env } });
  }

  /** Our own worker, draining these nodes. */
  async startWorker(name: string, sockets: readonly string[], databaseUrl: string): Promise<LabServer> {
    const env = { QUEUE_NODES: sockets.join(), DATABASE_URL: databaseUrl };
    return this.#startBundle({ bundle: 'worker', name, env });
  }

  async #startBundle(options: Omit<ServiceOptions, 'folder'>): Promise<LabServer> {
    const service: TestService = await startService({ ...options, folder: this.#folder });
    this.#cleanups.push(() => service.end());
    const part = options.bundle === 'worker' ? 'worker' : 'handler';
    return { port: service.port, component: { part, pid: pidOf(service) }, close: () => service.end() };
  }

  /** A baseline that serves votes. */
  async startBaseline(name: string, env: Record<string, string>): Promise<LabServer> {
    const port = await freePort();
    const server = this.#startScript(name, { PORT: String(port), ...env });
    await until(`${name} answers`, async () => {
      if (server.child.exitCode !== null) throw new Error(await server.output());
      const vote = { method: 'POST', body: '{"choice":"cats"}' };
      return (await fetch(`http://127.0.0.1:${port}/polls/cats-vs-dogs/votes`, vote)).ok;
    });
    return { port, component: { part: 'handler', pid: pidOf(server) }, close: () => server.end('SIGKILL') };
  }

  /** A baseline that drains; it begins at once. */
  startBaselineWorker(name: string, env: Record<string, string>): Component {
    return { part: 'worker', pid: pidOf(this.#startScript(name, env)) };
  }

  #startScript(name: string, env: Record<string, string>) {
    const log = join(this.#folder, `${name}.log`);
    const process = startNode(baselineBundle(name), env, log);
    this.#cleanups.push(() => process.end('SIGKILL'));
    return process;
  }

  startLoad(): Load {
    const load = startLoad();
    this.#cleanups.push(load.end);
    return load;
  }

  /** A PostgreSQL 18 with fsync, as `npm start` has it. */
  async startPostgres(): Promise<LabPostgres> {
    const dataDir = join(this.#folder, `postgres-${randomBytes(2).toString('hex')}`);
    await preparePostgres(dataDir, PASSWORD);
    const port = await freePort();
    const { command, args } = await postgresCommand({ dataDir, port });
    const server = startProgram(command, args, { log: `${dataDir}.log` });
    this.#cleanups.push(() => server.end('SIGINT'));
    const url = postgresUrl({ port, password: PASSWORD });
    await until('Postgres answers', async () => (await checkPostgres(url)) === undefined);
    const db = openDb({
      url,
      connectionsMax: 2,
      statementMsMax: 120_000,
      name: 'turnout-bench',
      onIdleError: () => {},
    });
    this.#cleanups.push(() => db.destroy());
    await migrate(db);
    await upsertPolls(db, readPolls(join(ROOT, 'stack/polls.json')));
    return { url, db, component: { part: 'postgres', pid: pidOf(server) } };
  }
}

function pidOf({ child }: { readonly child: { readonly pid?: number | undefined } }): number {
  if (child.pid === undefined) throw new Error('a program does not run');
  return child.pid;
}
