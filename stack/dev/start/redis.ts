import { accessSync, constants } from 'node:fs';
import { connect } from 'node:net';
import { delimiter, join } from 'node:path';
import { readConfig } from '#runtime/config.ts';
import { codeOf, StartError } from '../errors.ts';
import type { Command } from '../exec.ts';

/** Either will do: Valkey is the same server under a free licence. */
const SERVERS = ['redis-server', 'valkey-server'];
const PING_MS_MAX = 1_000;
/** What a unix socket's address can hold, less the ending NUL. */
export const SOCKET_PATH_BYTES_MAX = process.platform === 'darwin' ? 103 : 107;

export interface RedisCommandOptions {
  /** Where the append-only file lives; must exist. */
  readonly dir: string;
  /** Path of the unix socket, the only way in; at most `SOCKET_PATH_BYTES_MAX` bytes. */
  readonly socket: string;
  /** Further arguments; they win over those given here. */
  readonly extra?: readonly string[];
  /** The program; normally what is found on the PATH. */
  readonly server?: string;
}

/**
 * The command of a Redis that keeps what it was told to keep: every write is on disk before its answer, a full memory
 * refuses new votes and drops none. It stays in the foreground, listens on no port, and SIGTERM stops it in order.
 *
 * @throws StartError when there is no Redis on the PATH
 */
export function redisCommand({ dir, socket, extra = [], server }: RedisCommandOptions): Command {
  return {
    command: server ?? findRedisServer(),
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
 * Looks for a Redis or a Valkey.
 *
 * @param path a list of folders; the environment's unless a test has its own
 * @throws StartError saying what to install
 */
export function findRedisServer(path: string = pathOfEnvironment()): string {
  const folders = path.split(delimiter).filter(Boolean);
  const found = SERVERS.flatMap((name) => folders.map((folder) => join(folder, name))).find(isExecutable);
  if (found) return found;
  throw new StartError(
    `neither ${SERVERS.join(' nor ')} is on the PATH (Debian: apt-get install redis-server; macOS: brew install redis)`,
  );
}

function pathOfEnvironment(): string {
  return readConfig({ path: { name: 'PATH', parse: (text: string) => text, fallback: '' } }).path;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Asks a Redis whether it serves. One that still loads its file answers, but not with PONG.
 *
 * @returns what is wrong; `undefined` when nothing is
 */
export async function checkRedis(socket: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const connection = connect({ path: socket });
    const settle = (fault: string | undefined) => {
      connection.destroy();
      resolve(fault);
    };
    connection.setTimeout(PING_MS_MAX, () => settle(`no answer to PING within ${PING_MS_MAX} ms`));
    connection.once('error', (error) => settle(`no connection (${codeOf(error)})`));
    connection.once('close', () => settle('closed the connection'));
    connection.once('data', (data) => {
      const answer = data.toString('utf8').trim();
      settle(answer === '+PONG' ? undefined : answer.slice(0, 100));
    });
    connection.write('PING\r\n');
  });
}
