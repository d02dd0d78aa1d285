import { connect } from 'node:net';
import { codeOf, StartError } from '../errors.ts';
import type { Command } from '../exec.ts';
import { findRedisServer, NO_REDIS_SERVER } from '../path.mjs';

const PING_MS_MAX = 1_000;
/** Capacity of a unix socket's address (`sun_path`) without the terminating NUL. */
export const SOCKET_PATH_BYTES_MAX = process.platform === 'darwin' ? 103 : 107;

export interface RedisCommandOptions {
  /** Folder of the append-only file; must exist. */
  readonly dir: string;
  /** Path of the unix socket, the only way to connect; at most `SOCKET_PATH_BYTES_MAX` bytes. */
  readonly socket: string;
  /** Further arguments; they override those given here. */
  readonly extra?: readonly string[];
}

/**
 * Returns the command of a durable Redis: every write is fsynced before its reply, and a full memory rejects writes
 * instead of evicting keys. It runs in the foreground, listens on no port, and stops gracefully on SIGTERM.
 *
 * @throws StartError when there is no Redis on the PATH
 */
export function redisCommand({ dir, socket, extra = [] }: RedisCommandOptions): Command {
  return {
    command: requireRedisServer(),
    args: [
      ...['--port', '0', '--unixsocket', socket, '--unixsocketperm', '700', '--protected-mode', 'yes'],
      ...['--dir', dir, '--appendonly', 'yes', '--appendfsync', 'always', '--save', ''],
      ...['--maxmemory', '1gb', '--maxmemory-policy', 'noeviction'],
      ...['--auto-aof-rewrite-min-size', '64mb', '--daemonize', 'no'],
      ...extra,
    ],
  };
}

/**
 * Returns the path of a Redis or Valkey server.
 *
 * @throws StartError with what to install
 */
export function requireRedisServer(): string {
  const server = findRedisServer();
  if (server === undefined) throw new StartError(NO_REDIS_SERVER);
  return server;
}

/**
 * Sends PING to a Redis. One that is still loading its data replies with an error.
 *
 * @returns the reason why it is not ready; `undefined` if it is
 */
export async function checkRedis(socket: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const connection = connect({ path: socket });
    const settle = (fault: string | undefined) => {
      connection.destroy();
      resolve(fault);
    };
    connection.setTimeout(PING_MS_MAX, () => settle(`no reply to PING within ${PING_MS_MAX} ms`));
    connection.once('error', (error) => settle(`no connection (${codeOf(error)})`));
    connection.once('close', () => settle('closed the connection'));
    connection.once('data', (data) => {
      const reply = data.toString('utf8').trim();
      settle(reply === '+PONG' ? undefined : reply.slice(0, 100));
    });
    connection.write('PING\r\n');
  });
}
