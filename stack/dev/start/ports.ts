import { once } from 'node:events';
import { createServer } from 'node:net';
import { codeOf, StartError } from '../errors.ts';

/** Postgres keeps its distance from the handlers: 5433 when they begin at 8080. */
const POSTGRES_OFFSET = 5433 - 8080;
/** Nodes of a kind lie this far apart, so that each kind has its own last digit. */
const STEP = 10;
const ADMIN_OFFSET = 1_000;
const WORKER_OFFSET = 3;

/** Lowest base for which the Postgres port needs no privilege, rounded up. */
export const BASE_PORT_MIN = 4_000;
/** Highest base for which all ports stay below 32768, where the ports of outgoing connections begin. */
export const BASE_PORT_MAX = 31_000;

/** Where everything listens, from the base port alone. Numbers of nodes begin at 1. */
export const portsFrom = (base: number) => ({
  postgres: base + POSTGRES_OFFSET,
  vote: (node: number) => base + (node - 1) * STEP,
  results: base + 1,
  dashboard: base + 2,
  workerAdmin: (node: number) => base + WORKER_OFFSET + ADMIN_OFFSET + (node - 1) * STEP,
  adminOf: (port: number) => port + ADMIN_OFFSET,
});

/** A port that something is going to listen on; without a host, on every address. */
export interface WantedPort {
  readonly port: number;
  readonly host?: string;
  readonly wantedBy: string;
}

/**
 * Tries each port by listening on it for a moment.
 *
 * @throws StartError naming the first port that is taken or not allowed, and what wanted it
 */
export async function requireFreePorts(wanted: readonly WantedPort[]): Promise<void> {
  for (const { port, host, wantedBy } of wanted) {
    // Where the system lets a loopback listener and one on every address share a port, only trying both finds it.
    for (const address of host ? [host] : [undefined, '127.0.0.1']) {
      const fault = await tryPort(port, address);
      if (fault)
        throw new StartError(`port ${port}, wanted by ${wantedBy}, ${fault} (--port moves all ports)`);
    }
  }
}

async function tryPort(port: number, host: string | undefined): Promise<string | undefined> {
  const server = createServer();
  try {
    server.listen({ port, host, exclusive: true });
    await once(server, 'listening');
  } catch (error) {
    const code = codeOf(error);
    return code === 'EADDRINUSE' ? 'is already in use' : `cannot be used (${code})`;
  }
  server.close();
  await once(server, 'close');
  return undefined;
}
