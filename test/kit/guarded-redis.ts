import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { ROOT } from '#dev/root.ts';
import { checkRedis, redisCommand } from '#dev/start/redis-server.ts';
import { parseRedisAddress, type RedisAddress } from '#runtime/redis.ts';
import { type RedisPasswords, renderRedisAcl } from '#runtime/redis-acl.ts';
import { Secret } from '#runtime/secret.ts';
import { scratchFolder, startProgram, type TestProcess } from './process.ts';
import { until } from './until.ts';

const TEMPLATE = join(ROOT, 'stack/redis.acl');

export type GuardedUser = keyof RedisPasswords;

/** A Redis of one test file behind the rules of a real node. */
export interface GuardedRedis {
  readonly socket: string;
  readonly folder: string;
  readonly passwords: Readonly<Record<GuardedUser, string>>;
  /** May do everything, for the test to look inside; the rules of a real node have no such user. */
  readonly client: Redis;
  /** What a process gets as `REDIS_URL` or in `QUEUE_NODES`. */
  url(user: GuardedUser): string;
  address(user: GuardedUser): RedisAddress;
  /** Ends the server; the data stays. */
  down(): Promise<void>;
  /** Starts the server again on its data. */
  up(): Promise<void>;
  remove(): Promise<void>;
}

/** The rules of a real node in a file of their own, with with random passwords. */
export interface Guard {
  /** Arguments of the server. */
  readonly args: readonly string[];
  readonly passwords: Readonly<Record<GuardedUser, string>>;
  /** What a process gets as `REDIS_URL` or in `QUEUE_NODES`. */
  url(user: GuardedUser, socket: string): string;
  /** How the test itself connects, with every right; the rules of a real node have no such user. */
  options(socket: string): { readonly path: string; readonly username: string; readonly password: string };
}

/** Renders `stack/redis.acl` into a file. */
export async function writeGuard(file: string): Promise<Guard> {
  const [vote, worker, dashboard, root] = [password(), password(), password(), password()];
  const passwords = { vote, worker, dashboard };
  const acl = renderRedisAcl(await readFile(TEMPLATE, 'utf8'), {
    vote: new Secret(vote),
    worker: new Secret(worker),
    dashboard: new Secret(dashboard),
  });
  await writeFile(file, `${acl}user test on >${root} ~* &* +@all\n`, { mode: 0o600 });
  return {
    args: ['--aclfile', file],
    passwords,
    url: (user, socket) => `unix://${user}:${encodeURIComponent(passwords[user])}@${socket}`,
    options: (socket) => ({ path: socket, username: 'test', password: root }),
  };
}

/** Whether a Redis runs and requires a password. */
export async function isGuarded(socket: string): Promise<boolean> {
  return (await checkRedis(socket))?.startsWith('-NOAUTH') ?? false;
}

/** Starts a Redis with `stack/redis.acl`, with random passwords. */
export async function startGuardedRedis(): Promise<GuardedRedis> {
  const folder = await scratchFolder();
  const socket = join(folder.path, 'r.sock');
  const guard = await writeGuard(join(folder.path, 'users.acl'));
  const start = async (): Promise<TestProcess> => {
    const { command, args } = redisCommand({ dir: folder.path, socket, extra: guard.args });
    const server = startProgram(command, args, { log: join(folder.path, 'redis.log') });
    await until('Redis asks for a password', () => isGuarded(socket));
    return server;
  };
  let server = await start();
  const url = (user: GuardedUser) => guard.url(user, socket);
  const client = new Redis({
    ...guard.options(socket),
    maxRetriesPerRequest: null,
    replyMapping: 'legacy',
  });
  client.on('error', () => {});
  return {
    socket,
    folder: folder.path,
    passwords: guard.passwords,
    client,
    url,
    address: (user) => parseRedisAddress(url(user)),
    down: async () => {
      await server.end('SIGKILL');
    },
    up: async () => {
      server = await start();
    },
    remove: async () => {
      client.disconnect();
      await server.end('SIGKILL');
      await folder.remove();
    },
  };
}

/** With characters that a URL must encode. */
function password(): string {
  return `p@/${randomBytes(18).toString('base64')}`;
}
