import { writeFileSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import { type Poll, readPolls } from '#runtime/polls.ts';
import { Secret } from '#runtime/secret.ts';
import { type Command, run } from '../exec.ts';
import type { Interrupt } from '../signals.ts';
import type { Terminal } from '../terminal.ts';
import { TIMING } from './child.ts';
import { type DataFolder, idleFrontends, openDataFolder, prepareFrontends } from './data.ts';
import type { Environment } from './environment.ts';
import { findLeftovers, stopLeftovers } from './leftovers.ts';
import type { Options } from './options.ts';
import { planServices, type Service } from './plan.ts';
import { portsFrom, requireFreePorts } from './ports.ts';
import { postgresCommand, postgresUrl, preparePostgres } from './postgres.ts';
import { checkService } from './readiness.ts';
import { findRedisServer, redisCommand } from './redis.ts';
import { DASHBOARD_USER, keepSecrets, type Secrets, writeSecret } from './secrets.ts';
import { Supervisor } from './supervisor.ts';
import { renderWelcome, type Welcome } from './welcome.ts';

const BUILD_MS_MAX = 120_000;

/** What a run is made from. */
export interface SystemParts {
  readonly options: Options;
  readonly environment: Environment;
  readonly terminal: Terminal;
  readonly interrupt: Interrupt;
  /** Makes the bundles. */
  readonly build: Command;
  /** Where the bundles are. */
  readonly dist: string;
  /** The polls, unless the environment names others. */
  readonly pollsFile: string;
}

/**
 * Runs the whole system until somebody interrupts it, and stops all of it whatever happens.
 *
 * @returns the exit code: 0 after an interruption, 1 when the system could not be started
 * @throws StartError when the data folder cannot be had
 */
export async function runSystem(parts: SystemParts): Promise<number> {
  const { options, terminal, interrupt } = parts;
  const data = openDataFolder(options.data);
  const supervisor = new Supervisor({
    logFolder: data.logFolder,
    pidsFile: data.pidsFile,
    report: (line) => terminal.line(line),
  });
  // The last resort: however this process ends, it leaves nothing behind.
  process.once('exit', () => {
    supervisor.killAll();
    data.release();
  });
  interrupt.force.addEventListener('abort', () => process.exit(1));
  // Ends the wait for children that are starting; the rest of the stop is awaited below.
  interrupt.stop.addEventListener('abort', () => void supervisor.stop().catch(() => {}));
  try {
    await start(parts, data, supervisor);
    await aborted(interrupt.stop);
    return 0;
  } catch (error) {
    if (interrupt.stop.aborted) return 0;
    terminal.error(error);
    return 1;
  } finally {
    if (supervisor.hasChildren) await terminal.step('Stopping', () => supervisor.stop());
    data.release();
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve());
  });
}

async function start(parts: SystemParts, data: DataFolder, supervisor: Supervisor): Promise<void> {
  const { options, environment, terminal, build } = parts;
  const { stop } = parts.interrupt;
  const step = async (label: string, work: () => Promise<unknown>): Promise<void> => {
    stop.throwIfAborted();
    await terminal.step(label, work);
    stop.throwIfAborted();
  };

  const pollsFile = resolve(environment.pollsFile ?? parts.pollsFile);
  const [poll] = readPolls(pollsFile);
  const leftovers = findLeftovers(data.pidsFile);
  if (leftovers.length > 0) {
    const names = leftovers.map(({ name }) => name).join(', ');
    await step(`Stopping what a killed run left: ${names}`, () => stopLeftovers(leftovers, TIMING.stopMsMax));
  }
  const secrets = keepSecrets(data.secretFolder);
  const services = await plan(parts, data, secrets, pollsFile);
  await step('Checking that the ports are free', () =>
    requireFreePorts(services.flatMap(({ ports }) => ports)),
  );
  await step('Building the bundles', () =>
    run(build, { what: 'the build', msMax: BUILD_MS_MAX, signal: stop }),
  );
  if (!environment.databaseUrl) {
    const password = secrets.databasePassword.reveal();
    await step('Preparing PostgreSQL', () => preparePostgres(data.postgresFolder, password, stop));
  }
  const databaseUrl = environment.databaseUrl ?? ownDatabaseUrl(options, secrets);
  writeSecret(secrets.databaseUrlFile, databaseUrl.reveal());
  const known = prepareFrontends(
    data.path,
    options.frontends + idleFrontends(data.path, options.frontends).length,
  );
  writeFileSync(data.queueNodesFile, `${known.join(',')}\n`, { mode: 0o600 });

  const supervised = services.map((service) => ({
    ...service,
    check: () => checkService(service.check, databaseUrl),
  }));
  const isStore = ({ kind }: Pick<Service, 'kind'>) => kind === 'postgres' || kind === 'redis';
  const stores = environment.databaseUrl ? 'Redis' : 'PostgreSQL and Redis';
  await step(`Starting ${stores}`, () => supervisor.start(supervised.filter(isStore)));
  await step('Starting handlers and workers', () =>
    supervisor.start(supervised.filter((service) => !isStore(service))),
  );

  terminal.line(renderWelcome(describe(parts, data, services, secrets, supervisor, poll), terminal.paint));
  for (const idle of idleFrontends(data.path, options.frontends)) {
    terminal.line(
      `${idle} is not started; votes that wait in its queue are counted when --frontends covers it`,
    );
  }
}

async function plan(
  { options, environment, dist }: SystemParts,
  data: DataFolder,
  secrets: Secrets,
  pollsFile: string,
): Promise<Service[]> {
  const { port } = options;
  const server = findRedisServer();
  return planServices({
    options,
    data: data.path,
    dist,
    node: process.execPath,
    pollsFile,
    secrets,
    environment: environment.children,
    sockets: prepareFrontends(data.path, options.frontends),
    redis: (at) => redisCommand({ ...at, server }),
    postgres: environment.databaseUrl
      ? undefined
      : await postgresCommand({ dataDir: data.postgresFolder, port: portsFrom(port).postgres }),
  });
}

function ownDatabaseUrl({ port }: Options, { databasePassword }: Secrets): Secret {
  return new Secret(postgresUrl({ port: portsFrom(port).postgres, password: databasePassword.reveal() }));
}

function describe(
  { options }: SystemParts,
  data: DataFolder,
  services: readonly Service[],
  secrets: Secrets,
  supervisor: Supervisor,
  poll: Poll | undefined,
): Welcome {
  const ports = portsFrom(options.port);
  const url = (port: number) => `http://localhost:${port}/`;
  return {
    services: services.map(({ name, about, where }) => ({
      name,
      about,
      where: where.startsWith('/') ? shorten(where) : where,
      log: shorten(supervisor.logFileOf(name)),
    })),
    vote: url(ports.vote(1)),
    results: url(ports.results),
    dashboard: url(ports.dashboard),
    dashboardUser: DASHBOARD_USER,
    dashboardUsersFile: shorten(secrets.dashboardUsersFile),
    poll: poll?.id ?? '',
    choice: poll?.choices[0]?.id ?? '',
    data: `${shorten(data.path)}/`,
  };
}

/** A path as people would type it here, when that is shorter. */
function shorten(path: string): string {
  const typed = relative(process.cwd(), path);
  return typed.length < path.length ? typed : path;
}
