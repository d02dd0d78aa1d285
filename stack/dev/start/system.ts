import { writeFileSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import { type Poll, readPollsFile } from '#runtime/polls.ts';
import { Secret } from '#runtime/secret.ts';
import { type Command, run } from '../exec.ts';
import type { Interrupt } from '../signals.ts';
import type { Terminal } from '../terminal.ts';
import { CHILD_STOP_MS_MAX } from './child.ts';
import { type DataFolder, idleFrontends, openDataFolder, prepareFrontends } from './data.ts';
import type { Environment } from './environment.ts';
import { checkService } from './health-check.ts';
import { findLeftovers, stopLeftovers } from './leftovers.ts';
import type { Options } from './options.ts';
import { planServices, type ServicePlan } from './plan.ts';
import { portsFrom, requireFreePorts } from './ports.ts';
import { postgresCommand, postgresUrl, preparePostgres } from './postgres-server.ts';
import { redisCommand } from './redis-server.ts';
import { DASHBOARD_USER, openSecrets, type Secrets, writeSecret } from './secrets.ts';
import { Supervisor } from './supervisor.ts';
import { renderWelcome, type Welcome } from './welcome.ts';

const BUILD_MS_MAX = 120_000;

/** Input of a run. */
export interface SystemParts {
  readonly options: Options;
  readonly environment: Environment;
  readonly terminal: Terminal;
  readonly interrupt: Interrupt;
  /** Builds the bundles. */
  readonly build: Command;
  /** The folder of the bundles. */
  readonly dist: string;
  /** The polls, unless the environment names others. */
  readonly pollsFile: string;
}

/** A run in progress: its input, its locked data folder, its processes. */
interface Run extends SystemParts {
  readonly data: DataFolder;
  readonly supervisor: Supervisor;
}

/**
 * Runs the whole system until it is interrupted; stops every process in any case.
 *
 * @returns the exit code: 0 after an interruption, 1 when the system could not be started
 * @throws StartError when the data folder cannot be used
 */
export async function runSystem(parts: SystemParts): Promise<number> {
  const { options, terminal, interrupt } = parts;
  const data = openDataFolder(options.data);
  const supervisor = new Supervisor({
    logFolder: data.logFolder,
    pidsFile: data.pidsFile,
    report: (line) => terminal.line(line),
  });
  // Last resort: leaves no process behind, however this one exits.
  process.once('exit', () => {
    supervisor.killAll();
    data.release();
  });
  interrupt.force.addEventListener('abort', () => process.exit(1));
  // Ends the wait for children that are starting; `finally` awaits the stop itself.
  interrupt.stop.addEventListener('abort', () => void supervisor.stop().catch(() => {}));
  try {
    await start({ ...parts, data, supervisor });
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

async function start(system: Run): Promise<void> {
  const { environment, build, data, interrupt } = system;
  const pollsFile = resolve(environment.pollsFile ?? system.pollsFile);
  const [poll] = readPollsFile(pollsFile).polls;
  await stopEarlierRun(system);
  const secrets = openSecrets(data.secretFolder);
  const services = await plan(system, secrets, pollsFile);
  await step(system, 'Checking that the ports are free', () =>
    requireFreePorts(services.flatMap(({ ports }) => ports)),
  );
  await step(system, 'Building the bundles', () =>
    run(build, { what: 'the build', msMax: BUILD_MS_MAX, signal: interrupt.stop }),
  );
  const databaseUrl = await prepareDatabase(system, secrets);
  writeSecret(secrets.databaseUrlFile, databaseUrl.reveal());
  writeQueueNodes(system);
  await startServices(system, services, databaseUrl);
  welcome(system, services, secrets, poll);
}

/** Runs one step of the start, unless the run is interrupted before or during it. */
async function step(
  { terminal, interrupt }: Run,
  label: string,
  work: () => Promise<unknown>,
): Promise<void> {
  interrupt.stop.throwIfAborted();
  await terminal.step(label, work);
  interrupt.stop.throwIfAborted();
}

/** Stops the processes of an earlier run that was killed. */
async function stopEarlierRun(system: Run): Promise<void> {
  const leftovers = findLeftovers(system.data.pidsFile);
  if (leftovers.length === 0) return;
  const names = leftovers.map(({ name }) => name).join(', ');
  await step(system, `Stopping processes left by a killed run: ${names}`, () =>
    stopLeftovers(leftovers, CHILD_STOP_MS_MAX),
  );
}

async function plan(
  { options, environment, dist, data }: Run,
  secrets: Secrets,
  pollsFile: string,
): Promise<ServicePlan[]> {
  return planServices({
    options,
    data: data.path,
    dist,
    node: process.execPath,
    pollsFile,
    secrets,
    environment: environment.children,
    issuer: environment.issuer,
    sockets: prepareFrontends(data.path, options.frontends),
    redis: redisCommand,
    postgres: environment.databaseUrl
      ? undefined
      : await postgresCommand({
          dataDir: data.postgresFolder,
          port: portsFrom(options.port).postgres,
        }),
  });
}

/** Returns the URL of the user's database, or prepares one of its own and returns its URL. */
async function prepareDatabase(system: Run, secrets: Secrets): Promise<Secret> {
  const { options, environment, data, interrupt } = system;
  if (environment.databaseUrl) return environment.databaseUrl;
  const password = secrets.databasePassword.reveal();
  await step(system, 'Preparing PostgreSQL', () =>
    preparePostgres(data.postgresFolder, password, interrupt.stop),
  );
  return new Secret(postgresUrl({ port: portsFrom(options.port).postgres, password }));
}

/** Writes the queues of all frontends for `npm run audit`, including frontends that this run does not start. */
function writeQueueNodes({ options, data }: Run): void {
  const idle = idleFrontends(data.path, options.frontends);
  const sockets = prepareFrontends(data.path, options.frontends + idle.length);
  writeFileSync(data.queueNodesFile, `${sockets.join(',')}\n`, { mode: 0o600 });
}

/** Starts the stores, then the processes that depend on them. */
async function startServices(
  system: Run,
  services: readonly ServicePlan[],
  databaseUrl: Secret,
): Promise<void> {
  const { environment, supervisor } = system;
  const supervised = services.map((service) => ({
    ...service,
    check: () => checkService(service.check, databaseUrl),
  }));
  const isStore = ({ kind }: Pick<ServicePlan, 'kind'>) => kind === 'postgres' || kind === 'redis';
  const stores = environment.databaseUrl ? 'Redis' : 'PostgreSQL and Redis';
  await step(system, `Starting ${stores}`, () => supervisor.start(supervised.filter(isStore)));
  await step(system, 'Starting handlers and workers', () =>
    supervisor.start(supervised.filter((service) => !isStore(service))),
  );
}

function welcome(
  system: Run,
  services: readonly ServicePlan[],
  secrets: Secrets,
  poll: Poll | undefined,
): void {
  const { options, terminal, data } = system;
  terminal.line(renderWelcome(describe(system, services, secrets, poll), terminal.paint));
  for (const idle of idleFrontends(data.path, options.frontends)) {
    terminal.line(
      `${idle} is not running. Votes that wait in its queue are counted after a start with a larger --frontends.`,
    );
  }
}

function describe(
  { options, data, supervisor }: Run,
  services: readonly ServicePlan[],
  secrets: Secrets,
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

/** Returns the path relative to the working directory, if that is shorter. */
function shorten(path: string): string {
  const relativePath = relative(process.cwd(), path);
  return relativePath.length < path.length ? relativePath : path;
}
