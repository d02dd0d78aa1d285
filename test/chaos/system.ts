import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { type Db, openDb } from '#db/client.ts';
import { ROOT } from '#dev/root.ts';
import { checkPostgres, postgresCommand, postgresUrl, preparePostgres } from '#dev/start/postgres-server.ts';
import { redisCommand } from '#dev/start/redis-server.ts';
import { FENCED_EXIT_CODE } from '#handlers/vote/processes.ts';
import { type Guard, isGuarded, writeGuard } from '#kit/guarded-redis.ts';
import { freePort, scratchFolder, startProgram, type TestProcess } from '#kit/process.ts';
import { startProxy, type TestProxy } from '#kit/proxy.ts';
import { startBundle, VOTER_KEY } from '#kit/system.ts';
import { until } from '#kit/until.ts';

/** Of Postgres: of the owner of the database and of the superuser. */
export const PASSWORD = 'chaos';
const READY_MS_MAX = 60_000;
/** Small enough to fill quickly, large enough for a run. */
const DISK_MEGABYTES = 192;
/** All frontends have the same host name; only their ids differ. */
const HOST = 'frontend';
const LIBFAKETIME = '/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1';

/** One process of the system, which can be stopped in any way and restarted. */
class Unit {
  readonly name: string;
  readonly #spawn: () => TestProcess;
  readonly #isUp: () => Promise<boolean>;
  #process: TestProcess | undefined;
  #isClosed = false;

  /** @param isUp whether the process serves requests; a rejection means that it does not */
  constructor(name: string, spawn: () => TestProcess, isUp: () => Promise<boolean>) {
    this.name = name;
    this.#spawn = spawn;
    this.#isUp = isUp;
  }

  get pid(): number {
    const pid = this.#process?.child.pid;
    if (pid === undefined) throw new Error(`${this.name} is not running`);
    return pid;
  }

  get hasEnded(): boolean {
    const child = this.#process?.child;
    return !child || child.exitCode !== null || child.signalCode !== null;
  }

  /** Starts the process unless it runs (two faults may both restart it) or is closed. */
  start(): void {
    if (!this.hasEnded || this.#isClosed) return;
    this.#process = this.#spawn();
    // Docker restarts a handler that exits because it is fenced.
    this.#process.child.once('exit', (code) => {
      if (code === FENCED_EXIT_CODE) this.start();
    });
  }

  /** Stops the process permanently, whatever faults are still in progress. */
  async close(signal: NodeJS.Signals): Promise<void> {
    this.#isClosed = true;
    await this.end(signal);
  }

  async startAndWait(): Promise<void> {
    this.start();
    await this.untilUp();
  }

  async untilUp(): Promise<void> {
    await until(`${this.name} is up`, () => this.#isUp(), READY_MS_MAX);
  }

  signal(signal: NodeJS.Signals): void {
    this.#process?.child.kill(signal);
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    await this.#process?.end(signal);
  }
}

/** A frontend: its Redis, its handler, and the proxy through which workers reach its Redis. */
export interface Frontend {
  readonly name: string;
  readonly url: string;
  /** Connection of the suite itself. All others connect with the ACL of a real node. */
  readonly redisOptions: ReturnType<Guard['options']>;
  /** The entry of `QUEUE_NODES` for this node, through the proxy. */
  readonly queueNode: string;
  /** Folder of the append-only file, on a small tmpfs if one can be mounted. */
  readonly disk: string;
  readonly redis: Unit;
  readonly handler: Unit;
  readonly proxy: TestProxy;
  /** Sets the clock of the handler, in milliseconds ahead of the real one. */
  setClock(msAhead: number): void;
}

/** Whether single processes can have a clock of their own. */
export const canSkewClocks = (): boolean => existsSync(LIBFAKETIME);

/** Connects to a frontend's Redis with all rights, for as long as `use` takes. */
export async function withRedis<T>(
  { redisOptions }: Frontend,
  use: (client: Redis) => Promise<T>,
): Promise<T> {
  const client = new Redis({ ...redisOptions, replyMapping: 'legacy' });
  client.on('error', () => {});
  try {
    return await use(client);
  } finally {
    client.disconnect();
  }
}

export interface ChaosSystem {
  readonly frontends: readonly Frontend[];
  readonly workers: readonly Unit[];
  readonly postgres: Unit;
  /** Its data folder. */
  readonly postgresDir: string;
  readonly postgresPort: number;
  readonly postgresProxy: TestProxy;
  readonly db: Db;
  /** Whether each Redis has its own small disk; needs root. */
  readonly hasDisks: boolean;
  /** Copies the logs of all units to a folder that is kept, and returns its path. */
  keepLogs(): string;
  stop(): Promise<void>;
}

export interface ChaosSystemOptions {
  readonly frontends: number;
  readonly workers: number;
  /** Further arguments of Postgres. */
  readonly postgresArgs?: readonly string[];
}

/** Starts a whole system in a scratch folder, with proxies between workers and their servers. */
export async function startSystem(options: ChaosSystemOptions): Promise<ChaosSystem> {
  const folder = await scratchFolder();
  const cleanups: (() => Promise<unknown> | unknown)[] = [folder.remove];
  const stop = async (): Promise<void> => {
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
  };
  try {
    const postgresDir = join(folder.path, 'postgres');
    const { postgres, port: postgresPort } = await startPostgres(
      postgresDir,
      folder.path,
      options.postgresArgs ?? [],
    );
    cleanups.push(() => postgres.close('SIGINT'));
    const proxyPort = await freePort();
    const postgresProxy = await startProxy({ port: proxyPort }, { port: postgresPort });
    cleanups.push(postgresProxy.close);

    const frontends: Frontend[] = [];
    let hasDisks = true;
    for (let number = 1; number <= options.frontends; number++) {
      const home = join(folder.path, `f${number}`);
      mkdirSync(home);
      const disk = mountDisk(home);
      if (disk) cleanups.push(() => spawnSync('umount', ['--lazy', home]));
      hasDisks &&= disk;
      const frontend = await startFrontend(`frontend0${number}`, home, folder.path);
      cleanups.push(
        () => frontend.redis.close('SIGKILL'),
        frontend.proxy.close,
        () => frontend.handler.close('SIGTERM'),
      );
      frontends.push(frontend);
    }

    const workers: Unit[] = [];
    const nodes = frontends.map(({ queueNode }) => queueNode).join();
    for (let number = 1; number <= options.workers; number++) {
      const worker = await startWorker(`worker${number}`, folder.path, nodes, proxyPort);
      cleanups.push(() => worker.close('SIGKILL'));
      workers.push(worker);
    }
    // A node's very first start needs a worker.
    await Promise.all(frontends.map(({ handler }) => handler.untilUp()));
    const db = openDb({
      url: postgresUrl({ port: postgresPort, password: PASSWORD }),
      connectionsMax: 2,
      statementMsMax: 60_000,
      name: 'turnout-chaos',
      onIdleError: () => {},
    });
    cleanups.push(() => db.destroy());
    return {
      frontends,
      workers,
      postgres,
      postgresDir,
      postgresPort,
      postgresProxy,
      db,
      hasDisks,
      keepLogs: () => keepLogs(folder.path),
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function startPostgres(
  dataDir: string,
  folder: string,
  extra: readonly string[],
): Promise<{ postgres: Unit; port: number }> {
  await preparePostgres(dataDir, PASSWORD);
  const port = await freePort();
  const { command, args } = await postgresCommand({ dataDir, port, extra });
  const url = postgresUrl({ port, password: PASSWORD });
  const postgres = new Unit(
    'postgres',
    () => startProgram(command, args, { log: join(folder, 'postgres.log') }),
    async () => (await checkPostgres(url)) === undefined,
  );
  await postgres.startAndWait();
  return { postgres, port };
}

async function startFrontend(name: string, disk: string, folder: string): Promise<Frontend> {
  const socket = join(folder, `${name}.sock`);
  const guard = await writeGuard(join(folder, `${name}.acl`));
  // A low threshold, so that some faults hit a rewrite of the append-only file.
  const extra = ['--auto-aof-rewrite-min-size', '8mb', ...guard.args];
  const { command, args } = redisCommand({ dir: disk, socket, extra });
  const redis = new Unit(
    `${name} redis`,
    () => startProgram(command, args, { log: join(folder, `${name}-redis.log`) }),
    () => isGuarded(socket),
  );
  await redis.startAndWait();
  const drained = join(folder, `${name}-proxy.sock`);
  const proxy = await startProxy({ path: drained }, { path: socket });
  const [port, adminPort] = [await freePort(), await freePort()];
  const clock = join(folder, `${name}.clock`);
  const setClock = (msAhead: number) => writeFileSync(clock, `${msAhead < 0 ? '' : '+'}${msAhead / 1_000}s`);
  setClock(0);
  const env = {
    PORT: String(port),
    ADMIN_PORT: String(adminPort),
    TURNOUT_NODE: HOST,
    REDIS_URL: guard.url('vote', socket),
    VOTER_KEY,
    ...(canSkewClocks() && {
      LD_PRELOAD: LIBFAKETIME,
      FAKETIME_TIMESTAMP_FILE: clock,
      FAKETIME_NO_CACHE: '1',
      FAKETIME_DONT_FAKE_MONOTONIC: '1',
    }),
  };
  const handler = new Unit(
    `${name} handler`,
    () => startBundle('vote', env, join(folder, `${name}-vote.log`)),
    async () => (await fetch(`http://127.0.0.1:${adminPort}/readyz`)).ok,
  );
  handler.start();
  return {
    name,
    url: `http://127.0.0.1:${port}`,
    redisOptions: guard.options(socket),
    queueNode: guard.url('worker', drained),
    disk,
    redis,
    handler,
    proxy,
    setClock,
  };
}

async function startWorker(name: string, folder: string, nodes: string, postgresPort: number): Promise<Unit> {
  const adminPort = await freePort();
  const env = {
    ADMIN_PORT: String(adminPort),
    QUEUE_NODES: nodes,
    DATABASE_URL: postgresUrl({ port: postgresPort, password: PASSWORD }),
    POLLS_FILE: join(ROOT, 'stack/polls.json'),
  };
  const worker = new Unit(
    name,
    () => startBundle('worker', env, join(folder, `${name}.log`)),
    async () => (await fetch(`http://127.0.0.1:${adminPort}/readyz`)).ok,
  );
  await worker.startAndWait();
  return worker;
}

function keepLogs(folder: string): string {
  const kept = mkdtempSync(join(tmpdir(), 'turnout-chaos-logs-'));
  for (const name of readdirSync(folder).filter((entry) => entry.endsWith('.log'))) {
    copyFileSync(join(folder, name), join(kept, name));
  }
  return kept;
}

function mountDisk(path: string): boolean {
  const options = `size=${DISK_MEGABYTES}m,mode=700`;
  return spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', path]).status === 0;
}
