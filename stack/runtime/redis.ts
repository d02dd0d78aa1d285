import { Redis, type RedisOptions } from 'ioredis';
import { parseSocketAddress } from './socket-address.ts';

const CONNECT_TIMEOUT_MS = 2_000;
const RECONNECT_DELAY_MS_MIN = 50;
const RECONNECT_DELAY_MS_MAX = 250;

/** Address of a Redis: a unix socket, or host and port. `name` holds no credentials, so it may be logged. */
export interface RedisAddress {
  readonly name: string;
  readonly options: Endpoint;
}

interface Endpoint {
  path?: string;
  host?: string;
  port?: number;
  username?: string;
  password?: string;
  db?: number;
  tls?: object;
}

/**
 * Parses `/path/to.sock`, `unix://user:password@/path/to.sock`, `redis://user:password@host:port/db` and `rediss://…`.
 *
 * @throws TypeError for any other form
 */
export function parseRedisAddress(url: string): RedisAddress {
  const socket = parseSocketAddress(url);
  if (socket) return { name: socket.path, options: socket };
  const { protocol, hostname, port, username, password, pathname } = new URL(url);
  if ((protocol !== 'redis:' && protocol !== 'rediss:') || !hostname)
    throw new TypeError('not a redis:// URL');
  const host = hostname.replace(/^\[|\]$/g, '');
  const number = Number(port || 6379);
  return {
    name: `${hostname}:${number}`,
    options: {
      host,
      port: number,
      ...(username && { username: decodeURIComponent(username) }),
      ...(password && { password: decodeURIComponent(password) }),
      ...(pathname.length > 1 && { db: Number(pathname.slice(1)) }),
      ...(protocol === 'rediss:' && { tls: {} }),
    },
  };
}

/** Returns options common to all connections: reconnect quickly, without an end. */
export function connectionOptions(address: RedisAddress): RedisOptions {
  return {
    ...address.options,
    connectTimeout: CONNECT_TIMEOUT_MS,
    retryStrategy: (attempt) => Math.min(RECONNECT_DELAY_MS_MIN * 2 ** (attempt - 1), RECONNECT_DELAY_MS_MAX),
  };
}

/**
 * Opens a connection that fails fast: a command that cannot be sent, or whose connection breaks before its response, is
 * rejected at once and never resent. Retrying is left to the caller.
 */
export function connectFailingFast(address: RedisAddress): Redis {
  return new Redis({
    ...connectionOptions(address),
    replyMapping: 'legacy',
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
  });
}
