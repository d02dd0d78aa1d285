import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { type Db, openDb } from '#db/client.ts';
import { migrate } from '#db/migrate.ts';
import { applyPollsFile } from '#db/polls.ts';
import { ROOT } from '#dev/root.ts';
import { checkPostgres, postgresCommand, postgresUrl, preparePostgres } from '#dev/start/postgres-server.ts';
import { freePort, scratchFolder, startProgram, type TestProcess } from '#kit/process.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { type ServiceOptions, startService, voteEnv } from '#kit/system.ts';
import { until } from '#kit/until.ts';
import { VOTE_NODE_FLAGS } from '#runtime/node-flags.ts';
import { readPollsFile } from '#runtime/polls.ts';
import { baselineBundle } from '../build.ts';
import { type LoadProcess, startLoadProcess } from '../load/process.ts';
import type { Component } from '../measure/proc.ts';
import { startProxy, type TestbedProxy } from './proxy.ts';

/** A backlog may be larger than what a node is configured for. */
const REDIS_EXTRA = ['--maxmemory', '8gb'];
const PASSWORD = 'bench';

/** A running PostgreSQL with the schema and the polls. */
export interface TestbedPostgres {
  readonly url: string;
  readonly db: Db;
  /** Opens another pool. Its caller closes it. */
  openDb(connectionsMax: number): Db;
  readonly component: Component;
}

/** A running process that listens on a port. */
export interface TestbedServer {
  readonly port: number;
  /** Where a bundle serves its metrics. */
  readonly adminUrl?: string;
  readonly component: Component;
  /** Ends it before its testbed is closed. */
  close(): Promise<unknown>;
}

/** Every open testbed, so that a signal can close them. */
const open = new Set<Testbed>();

/** Ends everything that any testbed started. */
export async function closeAllTestbeds(): Promise<void> {
  await Promise.all([...open].map((testbed) => testbed.close()));
}

/**
 * Starts processes and ends them in reverse order. Every round uses a testbed of its own, so that no side inherits state
 * from another.
 */
export class Testbed {
  readonly #folder: string;
  readonly #cleanups: (() => Promise<unknown>)[] = [];

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Calls `work` with an open testbed, and closes the testbed afterwards. */
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

  /** Starts a node's Redis: append-only, with an fsync after every write. */
  async startRedis(): Promise<TestRedis & { readonly component: Component }> {
    const redis = await startRedis(REDIS_EXTRA);
    this.#cleanups.push(redis.remove);
    return Object.assign(redis, { component: { part: 'redis', pid: pidOf(redis.process) } });
  }

  /** Starts the vote handler of a node. It becomes ready once the node is enrolled: by a worker or `enrolNode`. */
  async startHandler(node: string, socket: string): Promise<TestbedServer> {
    return this.#startBundle('handler', { bundle: 'vote', name: node, env: voteEnv(node, socket) });
  }

  /** Starts an HAProxy in front of a handler. */
  async startProxy({ port, adminUrl = '' }: TestbedServer): Promise<TestbedProxy> {
    const proxy = await startProxy(port, Number(new URL(adminUrl).port));
    this.#cleanups.push(proxy.close);
    return proxy;
  }

  /** Starts a worker that drains these nodes. */
  async startWorker(name: string, sockets: readonly string[], databaseUrl: string): Promise<TestbedServer> {
    const env = { QUEUE_NODES: sockets.join(), DATABASE_URL: databaseUrl };
    return this.#startBundle('worker', { bundle: 'worker', name, env });
  }

  async startResults(databaseUrl: string): Promise<TestbedServer> {
    return this.#startBundle('results', { bundle: 'results', env: { DATABASE_URL: databaseUrl } });
  }

  async #startBundle(part: string, options: Omit<ServiceOptions, 'folder'>): Promise<TestbedServer> {
    const service = await startService({ ...options, folder: this.#folder });
    this.#cleanups.push(() => service.end());
    const { port, adminUrl } = service;
    return { port, adminUrl, component: { part, pid: pidOf(service) }, close: () => service.end() };
  }

  /** Starts a baseline that serves votes, with the Node flags of the vote handler. */
  async startBaseline(name: string, env: Record<string, string>): Promise<TestbedServer> {
    const port = await freePort();
    const server = this.#startScript(name, VOTE_NODE_FLAGS, { PORT: String(port), ...env });
    await until(`${name} answers`, async () => {
      if (server.child.exitCode !== null) throw new Error(await server.output());
      const vote = { method: 'POST', body: '{"choice":"cats"}' };
      return (await fetch(`http://127.0.0.1:${port}/polls/cats-vs-dogs/votes`, vote)).ok;
    });
    return { port, component: { part: 'handler', pid: pidOf(server) }, close: () => server.end('SIGKILL') };
  }

  /** Starts a baseline that drains; it does not wait until the baseline is ready. */
  startBaselineWorker(name: string, env: Record<string, string>): Component {
    return { part: 'worker', pid: pidOf(this.#startScript(name, [], env)) };
  }

  #startScript(name: string, nodeFlags: readonly string[], env: Record<string, string>): TestProcess {
    const log = join(this.#folder, `${name}.log`);
    const server = startProgram(process.execPath, [...nodeFlags, baselineBundle(name)], { env, log });
    this.#cleanups.push(() => server.end('SIGKILL'));
    return server;
  }

  startLoadProcess(): LoadProcess {
    const load = startLoadProcess();
    this.#cleanups.push(load.end);
    return load;
  }

  /**
   * Starts a PostgreSQL 18 with fsync, configured as by `npm start`.
   *
   * @param extra command-line arguments that override the defaults
   */
  async startPostgres(extra: readonly string[] = []): Promise<TestbedPostgres> {
    const dataDir = join(this.#folder, `postgres-${randomBytes(2).toString('hex')}`);
    await preparePostgres(dataDir, PASSWORD);
    const port = await freePort();
    const { command, args } = await postgresCommand({ dataDir, port, extra });
    const server = startProgram(command, args, { log: `${dataDir}.log` });
    this.#cleanups.push(() => server.end('SIGINT'));
    const url = postgresUrl({ port, password: PASSWORD });
    await until('PostgreSQL answers', async () => (await checkPostgres(url)) === undefined);
    const open = (connectionsMax: number): Db =>
      openDb({ url, connectionsMax, statementMsMax: 120_000, name: 'turnout-bench', onIdleError: () => {} });
    const db = open(2);
    this.#cleanups.push(() => db.destroy());
    await migrate(db);
    await applyPollsFile(db, readPollsFile(join(ROOT, 'stack/polls.json')));
    return { url, db, openDb: open, component: { part: 'postgres', pid: pidOf(server) } };
  }
}

function pidOf({ child }: Pick<TestProcess, 'child'>): number {
  if (child.pid === undefined) throw new Error('a program did not start; is it executable?');
  return child.pid;
}
