import { createServer, type Server } from 'node:http';
import { type AddressInfo, type ListenOptions, Server as NetServer } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import type { Hono } from 'hono';
import { ConfigError } from './config.ts';

/** No client may keep a connection longer than these without making progress. */
const HEADERS_TIMEOUT_MS = 5_000;
const REQUEST_TIMEOUT_MS = 10_000;
/** Longer than the proxy keeps its own idle connections, so that the proxy, not we, closes them. */
const KEEP_ALIVE_TIMEOUT_MS = 65_000;
const CONNECTIONS_CHECK_INTERVAL_MS = 1_000;
const HEADER_BYTES_MAX = 8_192;
const HEADERS_MAX = 64;
/** The kernel then spreads connections over all sockets of a port. Elsewhere than on Linux there is one. */
const CAN_SHARE_PORTS = process.platform === 'linux';
/** How long an orderly stop waits for answers under way before it cuts the connections. */
const CLOSE_MS_MAX = 5_000;

/** For a port where a crowd arrives: the 512 connections of a proxy are all let in within 32 turns of the event loop. */
export const ACCEPTORS_FOR_A_CROWD = 16;

/** A server that listens. */
export interface Listening {
  readonly port: number;
  /** Stops listening, waits for the answers under way, closes idle connections. Can be called twice. */
  close(): Promise<void>;
}

export interface ServeOptions {
  /** Where to listen; everywhere when it is left out. */
  readonly hostname?: string;
  /**
   * How many sockets listen on the port, where the system can share it between them. Node accepts one connection a socket
   * in each turn of the event loop, so with one alone a crowd of new connections waits for seconds while the process is
   * busy with others.
   */
  readonly acceptors?: number;
}

/**
 * Serves an app over HTTP with time-outs against slow clients.
 *
 * @param port 0 takes any free one
 * @throws ConfigError when the port is taken or not allowed
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
  const open = (one: NetServer, at: ListenOptions): Promise<void> =>
    new Promise((resolve, reject) => {
      one.once('error', (error: NodeJS.ErrnoException) =>
        reject(new ConfigError([`port ${at.port} cannot be used (${error.code})`])),
      );
      one.listen(at, resolve);
    });

  // Alone at first: a port that is shared from the start would be shared with another of our processes as well.
  await open(server, { port, ...where });
  const taken = (server.address() as AddressInfo).port;
  const others: NetServer[] = [];
  if (acceptors > 1 && CAN_SHARE_PORTS) {
    await new Promise((resolve) => server.close(resolve));
    const at = { port: taken, ...where, reusePort: true };
    await open(server, at);
    for (let n = 1; n < acceptors; n++) {
      const other = new NetServer({ allowHalfOpen: true, noDelay: true }, (socket) =>
        server.emit('connection', socket),
      );
      others.push(other);
      await open(other, at);
    }
  }

  let closing: Promise<void> | undefined;
  return {
    port: taken,
    close: () => {
      closing ??= close(server, others);
      return closing;
    },
  };
}

async function close(server: Server, others: readonly NetServer[]): Promise<void> {
  // An answer that is still to come tells its client not to use the connection again.
  server.keepAliveTimeout = 1;
  const cut = setTimeout(() => server.closeAllConnections(), CLOSE_MS_MAX);
  const closed = [server, ...others].map((one) => new Promise((resolve) => one.close(resolve)));
  server.closeIdleConnections();
  await Promise.all(closed);
  clearTimeout(cut);
}
