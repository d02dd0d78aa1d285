import { join } from 'node:path';
import { Redis } from 'ioredis';
import { checkRedis, redisCommand } from '#dev/start/redis-server.ts';
import { scratchFolder, startProgram, type TestProcess } from './process.ts';
import { until } from './until.ts';

/** A Redis server with the settings of a node. */
export interface TestRedis {
  readonly socket: string;
  readonly folder: string;
  /** A client for the test's own commands. */
  readonly client: Redis;
  /** The server process; `up` replaces it. */
  readonly process: TestProcess;
  /** Stops the server and keeps its data. */
  down(signal?: NodeJS.Signals): Promise<void>;
  /** Starts the server again with its data. */
  up(): Promise<void>;
  /** Stops the server and deletes its data. */
  remove(): Promise<void>;
}

/**
 * Starts a Redis server.
 *
 * @param extra command-line arguments that override the defaults
 */
export async function startRedis(extra: readonly string[] = []): Promise<TestRedis> {
  const folder = await scratchFolder();
  const socket = join(folder.path, 'r.sock');
  const start = async (): Promise<TestProcess> => {
    const { command, args } = redisCommand({ dir: folder.path, socket, extra });
    const server = startProgram(command, args, { log: join(folder.path, 'redis.log') });
    await until('Redis answers', async () => (await checkRedis(socket)) === undefined);
    return server;
  };
  let server = await start();
  const client = new Redis({ path: socket, maxRetriesPerRequest: null, replyMapping: 'legacy' });
  client.on('error', () => {});
  return {
    socket,
    folder: folder.path,
    client,
    get process() {
      return server;
    },
    down: async (signal) => {
      await server.end(signal);
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
