import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
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
/** How long an orderly stop waits for answers under way before it cuts the connections. */
const CLOSE_MS_MAX = 5_000;

/** A server that listens. */
export interface Listening {
  readonly port: number;
  /** Stops listening, waits for the answers under way, closes idle connections. Can be called twice. */
  close(): Promise<void>;
}

/** Sees a request before the app; says whether it has taken it, and then answers it. */
type FirstListener = (incoming: IncomingMessage, outgoing: ServerResponse) => boolean;

/**
 * Serves an app over HTTP with time-outs against slow clients.
 *
 * @param port 0 takes any free one
 * @param hostname where to listen; everywhere when it is left out
 * @param first takes requests past the app: for those that come by the million
 * @throws ConfigError when the port is taken or not allowed
 */
export async function listen(
  app: Pick<Hono, 'fetch'>,
  port: number,
  hostname?: string,
  first: FirstListener = () => false,
): Promise<Listening> {
  const throughApp = getRequestListener(app.fetch);
  const options = {
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    connectionsCheckingInterval: CONNECTIONS_CHECK_INTERVAL_MS,
    maxHeaderSize: HEADER_BYTES_MAX,
  };
  const server = createServer(options, (incoming, outgoing) => {
    if (!first(incoming, outgoing)) void throughApp(incoming, outgoing);
  });
  server.maxHeadersCount = HEADERS_MAX;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(new ConfigError([`port ${port} cannot be used (${error.code})`])),
    );
    server.listen(port, hostname, resolve);
  });

  let closing: Promise<void> | undefined;
  return {
    port: (server.address() as AddressInfo).port,
    close: () => {
      closing ??= close(server);
      return closing;
    },
  };
}

async function close(server: Server): Promise<void> {
  // An answer that is still to come tells its client not to use the connection again.
  server.keepAliveTimeout = 1;
  const cut = setTimeout(() => server.closeAllConnections(), CLOSE_MS_MAX);
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
  });
  clearTimeout(cut);
}
