import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { type Db, openDb } from '#db/client.ts';
import { migrate } from '#db/migrate.ts';
import { upsertPolls } from '#db/polls.ts';
import { ROOT } from '#dev/root.ts';
import { checkPostgres, postgresCommand, postgresUrl, preparePostgres } from '#dev/start/postgres-server.ts';
import { freePort, scratchFolder, startNode, startProgram } from '#kit/process.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { type ServiceOptions, startService, type TestService, voteEnv } from '#kit/system.ts';
import { until } from '#kit/until.ts';
import { readPolls } from '#runtime/polls.ts';
import { baselineBundle } from '../build.ts';
import { type Load, startLoad } from '../load/client.ts';
import type { Component } from '../measure/cpu.ts';

/** Backlogs may be larger than what a node normally holds. */
const REDIS_EXTRA = ['--maxmemory', '8gb'];
const PASSWORD = 'bench';

/** A Postgres that runs, with the schema and the polls. */
export interface TestbedPostgres {
  readonly url: string;
  readonly db: Db;
  readonly component: Component;
}

/** Something that listens on a port. */
export interface TestbedServer {
  readonly port: number;
  readonly component: Component;
  /** Ends it before its testbed is closed. */
  close(): Promise<unknown>;
}

/** Every testbed that is open, for whoever must leave in a hurry. */
const open = new Set<Testbed>();

/** Ends everything that any testbed started. */
export async function closeAllTestbeds(): Promise<void> {
  await Promise.all([...open].map((testbed) => testbed.close()));
}

/**
 * Starts real parts and ends them all, last first. Every round has a testbed of its own, so that no side inherits
 * anything from the one before.
 */
export class Testbed {
  readonly #folder: string;
  readonly #cleanups: (() => Promise<unknown>)[] = [];

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Opens a testbed, works in it, and closes it whatever happens. */
  static async use<T>(work: (testbed: Testbed) => Promise<T>): Promise<T> {
    const folder = await scratchFolder();
    const testbed = new Testbed(folder.path);
    testbed.#cleanups.push(folder.remove);
    open.add(testbed);
    try {
      return await work(testbed);
    } finally {
      await testbed.close();
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
  async startHandler(node: string, socket: string, env: Record<string, string> = {}): Promise<TestbedServer> {
    return this.#startBundle({ bundle: 'vote', name: node, env: { ...voteEnv(node, socket), ...env } });
  }

  /** Our own worker, draining these nodes. */
  async startWorker(name: string, sockets: readonly string[], databaseUrl: string): Promise<TestbedServer> {
    const env = { QUEUE_NODES: sockets.join(), DATABASE_URL: databaseUrl };
    return this.#startBundle({ bundle: 'worker', name, env });
  }

  async #startBundle(options: Omit<ServiceOptions, 'folder'>): Promise<TestbedServer> {
    const service: TestService = await startService({ ...options, folder: this.#folder });
    this.#cleanups.push(() => service.end());
    const part = options.bundle === 'worker' ? 'worker' : 'handler';
    return { port: service.port, component: { part, pid: pidOf(service) }, close: () => service.end() };
  }

  /** A baseline that serves votes. */
  async startBaseline(name: string, env: Record<string, string>): Promise<TestbedServer> {
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
  async startPostgres(): Promise<TestbedPostgres> {
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
