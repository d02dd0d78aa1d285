import { join } from 'node:path';
import { VOTE_NODE_FLAGS } from '#runtime/node-flags.ts';
import type { Command } from '../exec.ts';
import type { Options } from './options.ts';
import { portsFrom, type ServicePort } from './ports.ts';
import type { Secrets } from './secrets.ts';

export type Kind = 'postgres' | 'redis' | 'worker' | 'results' | 'dashboard' | 'vote' | 'issuer';

/**
 * The order of a graceful stop, one group at a time: first the handlers that capture votes (they flush to Redis), then
 * the readers of Redis and Postgres, then the stores.
 */
export const STOP_ORDER: readonly (readonly Kind[])[] = [
  ['vote', 'issuer'],
  ['worker', 'dashboard', 'results'],
  ['redis'],
  ['postgres'],
];

/** How to check whether a service is ready. */
export type HealthCheck =
  | { readonly by: 'ping'; readonly socket: string }
  | { readonly by: 'query' }
  | { readonly by: 'readyz'; readonly port: number };

/** How to run one process of the system. */
export interface ServicePlan {
  readonly name: string;
  readonly kind: Kind;
  /** What it is, for the table of processes: "vote handler". */
  readonly about: string;
  readonly command: Command;
  readonly env: Readonly<Record<string, string>>;
  readonly stopSignal: 'SIGTERM' | 'SIGINT';
  readonly check: HealthCheck;
  readonly ports: readonly ServicePort[];
  /** Where to reach it: a URL, an address or a socket. */
  readonly where: string;
}

/** Input of `planServices`; all paths are absolute. */
export interface PlanInput {
  readonly options: Options;
  readonly data: string;
  readonly dist: string;
  readonly node: string;
  readonly pollsFile: string;
  readonly secrets: Omit<Secrets, 'databasePassword'>;
  /** The environment of every child. */
  readonly environment: Readonly<Record<string, string>>;
  /** The issuer's further environment; without it no issuer runs. */
  readonly issuer: Readonly<Record<string, string>> | undefined;
  /** The socket of each frontend's Redis. */
  readonly sockets: readonly string[];
  readonly redis: (at: { dir: string; socket: string }) => Command;
  /** `undefined` if DATABASE_URL names an existing Postgres. */
  readonly postgres: Command | undefined;
}

/** Returns the folder of a frontend's Redis. */
export function frontendFolder(data: string, node: number): string {
  return join(data, nodeName('frontend', node));
}

/** Returns a node's name in receipts, logs and metrics: `frontend01`, `worker02`. */
export function nodeName(role: 'frontend' | 'worker', node: number): string {
  return `${role}${String(node).padStart(2, '0')}`;
}

/** Plans every process of the system, in the order of the table that the user sees. Pure. */
export function planServices(input: PlanInput): ServicePlan[] {
  const nodes = input.sockets.map((socket, index) => ({ node: index + 1, socket }));
  const workers = Array.from({ length: input.options.workers }, (_, index) => index + 1);
  return [
    ...(input.postgres ? [postgres(input, input.postgres)] : []),
    ...nodes.flatMap(({ node, socket }) => [redis(input, node, socket), vote(input, node, socket)]),
    ...workers.map((node) => worker(input, node)),
    results(input),
    dashboard(input),
    ...(input.issuer ? [issuer(input, input.issuer)] : []),
  ];
}

function postgres({ options, environment }: PlanInput, command: Command): ServicePlan {
  const port = portsFrom(options.port).postgres;
  return {
    name: 'postgres',
    kind: 'postgres',
    about: 'PostgreSQL 18',
    command,
    env: childEnvironment(environment),
    stopSignal: 'SIGINT',
    check: { by: 'query' },
    ports: [{ port, host: '127.0.0.1', service: 'postgres' }],
    where: `127.0.0.1:${port}`,
  };
}

function redis({ data, environment, redis }: PlanInput, node: number, socket: string): ServicePlan {
  return {
    name: `${nodeName('frontend', node)}-redis`,
    kind: 'redis',
    about: 'queue of its frontend',
    command: redis({ dir: frontendFolder(data, node), socket }),
    env: childEnvironment(environment),
    stopSignal: 'SIGTERM',
    check: { by: 'ping', socket },
    ports: [],
    where: socket,
  };
}

function vote(input: PlanInput, node: number, socket: string): ServicePlan {
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
    },
  });
}

function worker(input: PlanInput, node: number): ServicePlan {
  const name = nodeName('worker', node);
  const admin = portsFrom(input.options.port).workerAdmin(node);
  return {
    name,
    kind: 'worker',
    about: 'vote counter',
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
    ports: [{ port: admin, service: `${name} (admin)` }],
    where: `http://localhost:${admin}/metrics`,
  };
}

function results(input: PlanInput): ServicePlan {
  return handler(input, {
    name: 'results',
    kind: 'results',
    about: 'live results',
    port: portsFrom(input.options.port).results,
    env: {
      DATABASE_URL_FILE: input.secrets.databaseUrlFile,
      VOTE_URL: `http://localhost:${portsFrom(input.options.port).vote(1)}`,
    },
  });
}

function dashboard(input: PlanInput): ServicePlan {
  return handler(input, {
    name: 'dashboard',
    kind: 'dashboard',
    about: 'queues and audit',
    port: portsFrom(input.options.port).dashboard,
    env: {
      DATABASE_URL_FILE: input.secrets.databaseUrlFile,
      QUEUE_NODES: input.sockets.join(','),
      DASHBOARD_USERS_FILE: input.secrets.dashboardUsersFile,
    },
  });
}

function issuer(input: PlanInput, env: Readonly<Record<string, string>>): ServicePlan {
  return handler(input, {
    name: 'issuer',
    kind: 'issuer',
    about: 'voter tokens',
    port: portsFrom(input.options.port).issuer,
    env: { ...env, VOTER_KEY_FILE: input.secrets.voterKeyFile },
  });
}

interface HandlerInput extends Pick<ServicePlan, 'name' | 'about' | 'env'> {
  readonly kind: 'vote' | 'results' | 'dashboard' | 'issuer';
  readonly port: number;
}

function handler(input: PlanInput, { name, kind, about, port, env }: HandlerInput): ServicePlan {
  const admin = portsFrom(input.options.port).adminOf(port);
  return {
    name,
    kind,
    about,
    command: bundle(input, kind),
    env: childEnvironment(input.environment, {
      PORT: String(port),
      ADMIN_PORT: String(admin),
      RECEIPTS_URL: `http://localhost:${portsFrom(input.options.port).results}`,
      ...env,
    }),
    stopSignal: 'SIGTERM',
    check: { by: 'readyz', port: admin },
    ports: [
      { port, service: name },
      { port: admin, service: `${name} (admin)` },
    ],
    where: `http://localhost:${port}/`,
  };
}

function bundle({ node, dist }: PlanInput, name: string): Command {
  const flags = name === 'vote' ? VOTE_NODE_FLAGS : [];
  return { command: node, args: [...flags, join(dist, `${name}.mjs`)] };
}

/** A child gets only these variables, so that it runs as it does on a Swarm. */
function childEnvironment(
  common: Readonly<Record<string, string>>,
  own: Readonly<Record<string, string>> = {},
): Record<string, string> {
  return { ...common, NODE_ENV: 'production', TZ: 'UTC', ...own };
}
