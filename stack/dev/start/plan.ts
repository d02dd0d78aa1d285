import { join } from 'node:path';
import { VOTE_NODE_FLAGS } from '#runtime/node-flags.ts';
import type { Command } from '../exec.ts';
import type { Options } from './options.ts';
import { portsFrom, type WantedPort } from './ports.ts';
import type { Secrets } from './secrets.ts';

export type Kind = 'postgres' | 'redis' | 'worker' | 'results' | 'dashboard' | 'vote';

/**
 * The order of an orderly stop, a group at a time: first who takes votes (it drains into Redis), then who reads from
 * Redis and Postgres, then who keeps.
 */
export const STOP_ORDER: readonly (readonly Kind[])[] = [
  ['vote'],
  ['worker', 'dashboard', 'results'],
  ['redis'],
  ['postgres'],
];

/** How to find out whether a service is ready. */
export type Check =
  | { readonly by: 'ping'; readonly socket: string }
  | { readonly by: 'query' }
  | { readonly by: 'readyz'; readonly port: number };

/** One process of the system. */
export interface Service {
  readonly name: string;
  readonly kind: Kind;
  /** For people: "vote handler". */
  readonly about: string;
  readonly command: Command;
  readonly env: Readonly<Record<string, string>>;
  readonly stopSignal: 'SIGTERM' | 'SIGINT';
  readonly check: Check;
  readonly ports: readonly WantedPort[];
  /** Where people reach it: a URL, an address or a socket. */
  readonly where: string;
}

/** What the plan is made from; all paths are absolute. */
export interface PlanInput {
  readonly options: Options;
  readonly data: string;
  readonly dist: string;
  readonly node: string;
  readonly pollsFile: string;
  readonly secrets: Omit<Secrets, 'databasePassword'>;
  /** What every child gets. */
  readonly environment: Readonly<Record<string, string>>;
  /** The socket of each frontend's Redis; their number is that of the frontends. */
  readonly sockets: readonly string[];
  readonly redis: (at: { dir: string; socket: string }) => Command;
  /** Absent when the database is somewhere else. */
  readonly postgres: Command | undefined;
}

/** The folder of a frontend's Redis. */
export function frontendFolder(data: string, node: number): string {
  return join(data, nodeName('frontend', node));
}

/** `frontend01`, `worker02`: what nodes are called in receipts, logs and metrics. */
export function nodeName(role: 'frontend' | 'worker', node: number): string {
  return `${role}${String(node).padStart(2, '0')}`;
}

/** Lays out the whole system, in the order in which people read it. Nothing is started or touched. */
export function planServices(input: PlanInput): Service[] {
  const nodes = input.sockets.map((socket, index) => ({ node: index + 1, socket }));
  const workers = Array.from({ length: input.options.workers }, (_, index) => index + 1);
  return [
    ...(input.postgres ? [postgres(input, input.postgres)] : []),
    ...nodes.flatMap(({ node, socket }) => [redis(input, node, socket), vote(input, node, socket)]),
    ...workers.map((node) => worker(input, node)),
    results(input),
    dashboard(input),
  ];
}

function postgres({ options, environment }: PlanInput, command: Command): Service {
  const port = portsFrom(options.port).postgres;
  return {
    name: 'postgres',
    kind: 'postgres',
    about: 'PostgreSQL 18',
    command,
    env: childEnvironment(environment),
    stopSignal: 'SIGINT',
    check: { by: 'query' },
    ports: [{ port, host: '127.0.0.1', wantedBy: 'postgres' }],
    where: `127.0.0.1:${port}`,
  };
}

function redis({ data, environment, redis }: PlanInput, node: number, socket: string): Service {
  return {
    name: `${nodeName('frontend', node)}-redis`,
    kind: 'redis',
    about: 'queue of the frontend',
    command: redis({ dir: frontendFolder(data, node), socket }),
    env: childEnvironment(environment),
    stopSignal: 'SIGTERM',
    check: { by: 'ping', socket },
    ports: [],
    where: socket,
  };
}

function vote(input: PlanInput, node: number, socket: string): Service {
  const ports = portsFrom(input.options.port);
  return handler(input, {
    name: `${nodeName('frontend', node)}-vote`,
    kind: 'vote',
    about: 'vote handler',
    port: ports.vote(node),
    env: {
      TURNOUT_NODE: nodeName('frontend', node),
      REDIS_URL: socket,
      VOTER_KEY_FILE: input.secrets.voterKeyFile,
      POLLS_FILE: input.pollsFile,
    },
  });
}

function worker(input: PlanInput, node: number): Service {
  const name = nodeName('worker', node);
  const admin = portsFrom(input.options.port).workerAdmin(node);
  return {
    name,
    kind: 'worker',
    about: 'counts the votes',
    command: bundle(input, 'worker'),
    env: childEnvironment(input.environment, {
      ADMIN_PORT: String(admin),
      TURNOUT_NODE: name,
      QUEUE_NODES: input.sockets.join(','),
      DATABASE_URL_FILE: input.secrets.databaseUrlFile,
      POLLS_FILE: input.pollsFile,
    }),
    stopSignal: 'SIGTERM',
    check: { by: 'readyz', port: admin },
    ports: [{ port: admin, wantedBy: `${name} (admin)` }],
    where: `http://localhost:${admin}/metrics`,
  };
}

function results(input: PlanInput): Service {
  return handler(input, {
    name: 'results',
    kind: 'results',
    about: 'live results',
    port: portsFrom(input.options.port).results,
    env: { DATABASE_URL_FILE: input.secrets.databaseUrlFile },
  });
}

function dashboard(input: PlanInput): Service {
  return handler(input, {
    name: 'dashboard',
    kind: 'dashboard',
    about: 'queues and ledger',
    port: portsFrom(input.options.port).dashboard,
    env: {
      DATABASE_URL_FILE: input.secrets.databaseUrlFile,
      QUEUE_NODES: input.sockets.join(','),
      DASHBOARD_USERS_FILE: input.secrets.dashboardUsersFile,
    },
  });
}

interface Handler extends Pick<Service, 'name' | 'about' | 'env'> {
  readonly kind: 'vote' | 'results' | 'dashboard';
  readonly port: number;
}

function handler(input: PlanInput, { name, kind, about, port, env }: Handler): Service {
  const admin = portsFrom(input.options.port).adminOf(port);
  return {
    name,
    kind,
    about,
    command: bundle(input, kind),
    env: childEnvironment(input.environment, { PORT: String(port), ADMIN_PORT: String(admin), ...env }),
    stopSignal: 'SIGTERM',
    check: { by: 'readyz', port: admin },
    ports: [
      { port, wantedBy: name },
      { port: admin, wantedBy: `${name} (admin)` },
    ],
    where: `http://localhost:${port}/`,
  };
}

function bundle({ node, dist }: PlanInput, name: string): Command {
  const flags = name === 'vote' ? VOTE_NODE_FLAGS : [];
  return { command: node, args: [...flags, join(dist, `${name}.mjs`)] };
}

/** Nothing of the user's environment reaches a child by accident, so it runs here as it does on a Swarm. */
function childEnvironment(
  common: Readonly<Record<string, string>>,
  own: Readonly<Record<string, string>> = {},
): Record<string, string> {
  return { ...common, NODE_ENV: 'production', TZ: 'UTC', ...own };
}
