import { join } from 'node:path';
import { Redis } from 'ioredis';
import { checkRedis, redisCommand } from '#dev/start/redis-server.ts';
import { scratchFolder, startProgram, type TestProcess } from './process.ts';
import { until } from './until.ts';

/** A Redis of one test file, with the settings of a real node unless it asks for others. */
export interface TestRedis {
  readonly socket: string;
  readonly folder: string;
  /** For the test to look inside. */
  readonly client: Redis;
  /** The server process, replaced by `restart`. */
  readonly process: TestProcess;
  /** Ends the server; the data stays. */
  down(signal?: NodeJS.Signals): Promise<void>;
  /** Starts the server again on its data. */
  up(): Promise<void>;
  /** Ends all and removes all. */
  remove(): Promise<void>;
}

/** @param extra arguments of the server that win over the usual ones */
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
