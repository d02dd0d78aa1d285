import { Redis, type RedisOptions } from 'ioredis';
import { parseSocketAddress } from './socket-address.ts';

const CONNECT_TIMEOUT_MS = 2_000;
const RECONNECT_DELAY_MS_MIN = 50;
const RECONNECT_DELAY_MS_MAX = 250;

/** A Redis, by the path of its unix socket or by host and port. `name` is safe to show: it holds no credentials. */
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
 * Understands `/path/to.sock`, `unix://user:password@/path/to.sock`, `redis://user:password@host:port/db` and `rediss://…`.
 *
 * @throws TypeError when it is none of these
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

/** Options that every connection shares: comes back by itself, quickly, for ever. */
export function connectionOptions(address: RedisAddress): RedisOptions {
  return {
    ...address.options,
    connectTimeout: CONNECT_TIMEOUT_MS,
    retryStrategy: (attempt) => Math.min(RECONNECT_DELAY_MS_MIN * 2 ** (attempt - 1), RECONNECT_DELAY_MS_MAX),
  };
}

/**
 * A connection that fails fast: a command that cannot be sent, or whose connection breaks before its answer, is
 * rejected at once and never sent again behind the caller's back. Who retries is the caller's decision.
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
