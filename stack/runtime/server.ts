import { createServer, type Server } from 'node:http';
import { type AddressInfo, type ListenOptions, Server as NetServer } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import type { Hono } from 'hono';
import { ConfigError } from './config.ts';

/** Limits for a client that makes no progress. */
const HEADERS_TIMEOUT_MS = 5_000;
const REQUEST_TIMEOUT_MS = 10_000;
/** Longer than the proxy's own limit, so that the proxy closes idle connections and never meets one closed under it. */
const KEEP_ALIVE_TIMEOUT_MS = 65_000;
const CONNECTIONS_CHECK_INTERVAL_MS = 1_000;
const HEADER_BYTES_MAX = 8_192;
const HEADERS_MAX = 64;
/** On Linux the kernel spreads connections over all sockets of a port. Elsewhere one socket accepts. */
const CAN_SHARE_PORTS = process.platform === 'linux';
/** Longest wait of a graceful stop for open requests before their connections are closed. */
const CLOSE_MS_MAX = 5_000;

/** For a crowd: the 512 connections of a proxy are accepted within 32 turns of the event loop. */
export const ACCEPTORS_FOR_A_CROWD = 16;

/** A listening server. */
export interface Listening {
  readonly port: number;
  /** Stops accepting, waits for open requests, closes idle connections. Can be called twice. */
  close(): Promise<void>;
}

export interface ServeOptions {
  /** The address to listen on; all addresses by default. */
  readonly hostname?: string;
  /**
   * Number of sockets that accept on the port, on Linux. Node.js accepts one connection per socket and turn of the event loop, so
   * with a single socket a crowd of new connections waits for seconds while the process is busy.
   */
  readonly acceptors?: number;
}

/**
 * Serves an app over HTTP with timeouts against slow clients.
 *
 * @param port 0 chooses a free one
 * @throws ConfigError when the port is in use or not permitted
 */
export async function listen(
  app: Pick<Hono, 'fetch'>,
  port: number,
  { hostname, acceptors = 1 }: ServeOptions = {},
): Promise<Listening> {
  const options = {
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    connectionsCheckingInterval: CONNECTIONS_CHECK_INTERVAL_MS,
    maxHeaderSize: HEADER_BYTES_MAX,
  };
  const server = createServer(options, getRequestListener(app.fetch));
  server.maxHeadersCount = HEADERS_MAX;
  const where = hostname === undefined ? {} : { host: hostname };
  const isShared = acceptors > 1 && CAN_SHARE_PORTS;
  // A shared port would also be shared with another process, so it is first claimed alone.
  const at = isShared
    ? { port: await claimPort({ port, ...where }), ...where, reusePort: true }
    : { port, ...where };
  const others = Array.from(
    { length: isShared ? acceptors - 1 : 0 },
    () =>
      new NetServer({ allowHalfOpen: true, noDelay: true }, (socket) => server.emit('connection', socket)),
  );
  for (const one of [server, ...others]) await open(one, at);

  let closing: Promise<void> | undefined;
  return {
    port: portOf(server),
    close: () => {
      closing ??= close(server, others);
      return closing;
    },
  };
}

function open(server: NetServer, at: ListenOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(new ConfigError([`port ${at.port} cannot be used (${error.code})`])),
    );
    server.listen(at, resolve);
  });
}

/** Returns the port after listening on it exclusively for a moment. */
async function claimPort(at: ListenOptions): Promise<number> {
  const probe = new NetServer();
  await open(probe, at);
  const port = portOf(probe);
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

function portOf(server: NetServer): number {
  return (server.address() as AddressInfo).port;
}

async function close(server: Server, others: readonly NetServer[]): Promise<void> {
  // Responses that are still to come then ask their clients to close the connection.
  server.keepAliveTimeout = 1;
  const cut = setTimeout(() => server.closeAllConnections(), CLOSE_MS_MAX);
  const closed = [server, ...others].map((one) => new Promise((resolve) => one.close(resolve)));
  server.closeIdleConnections();
  await Promise.all(closed);
  clearTimeout(cut);
}
