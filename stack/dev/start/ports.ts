import { once } from 'node:events';
import { createServer } from 'node:net';
import { codeOf, StartError } from '../errors.ts';

/** 5433 with the default base of 8080. */
const POSTGRES_OFFSET = 5433 - 8080;
/** Distance between nodes of a kind, so that each kind has its own last digit. */
const STEP = 10;
const ADMIN_OFFSET = 1_000;
const WORKER_OFFSET = 3;

/** Lowest base for which the Postgres port needs no privilege, rounded up. */
export const BASE_PORT_MIN = 4_000;
/** Highest base for which all ports stay below 32768, where the range of ephemeral ports begins. */
export const BASE_PORT_MAX = 31_000;

/** Returns every port, derived from the base port. Nodes are numbered from 1. */
export const portsFrom = (base: number) => ({
  postgres: base + POSTGRES_OFFSET,
  vote: (node: number) => base + (node - 1) * STEP,
  results: base + 1,
  dashboard: base + 2,
  issuer: base + 5,
  workerAdmin: (node: number) => base + WORKER_OFFSET + ADMIN_OFFSET + (node - 1) * STEP,
  adminOf: (port: number) => port + ADMIN_OFFSET,
});

/** A port that a service will listen on; without a host, on every address. */
export interface ServicePort {
  readonly port: number;
  readonly host?: string;
  readonly service: string;
}

/**
 * Checks that each port is free by listening on it briefly.
 *
 * @throws StartError that names the first port in use or not allowed, and the service that needs it
 */
export async function requireFreePorts(ports: readonly ServicePort[]): Promise<void> {
  for (const { port, host, service } of ports) {
    // Some systems let a listener on 127.0.0.1 and one on every address share a port; try both.
    for (const address of host ? [host] : [undefined, '127.0.0.1']) {
      const fault = await tryPort(port, address);
      if (fault) throw new StartError(`port ${port} for ${service} ${fault}`);
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
    return code === 'EADDRINUSE'
      ? 'is in use: stop the program that listens on it, or move all ports with --port'
      : `cannot be used (${code}): move all ports with --port`;
  }
  server.close();
  await once(server, 'close');
  return undefined;
}
