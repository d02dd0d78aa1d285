import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { expect, test } from 'vitest';
import { portsFrom, requireFreePorts } from '#dev/start/ports.ts';

async function whileListening(
  host: string | undefined,
  work: (port: number) => Promise<unknown>,
): Promise<number> {
  const server = createServer().listen({ port: 0, host });
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  try {
    await work(port);
  } finally {
    server.close();
    await once(server, 'close');
  }
  return port;
}

test('the default base gives the documented ports', () => {
  const ports = portsFrom(8080);
  expect([ports.postgres, ports.vote(1), ports.vote(2), ports.results, ports.dashboard]).toEqual([
    5433, 8080, 8090, 8081, 8082,
  ]);
  expect([ports.adminOf(ports.vote(2)), ports.workerAdmin(1), ports.workerAdmin(2)]).toEqual([
    9090, 9083, 9093,
  ]);
});

test.each([undefined, '127.0.0.1'])(
  'names a port in use and the service that needs it (listener on %s)',
  async (host) => {
    const port = await whileListening(host, async (taken) => {
      await expect(requireFreePorts([{ port: taken, service: 'results' }])).rejects.toThrow(
        `port ${taken} for results is in use: stop the program that listens on it, or move all ports with --port`,
      );
    });
    await requireFreePorts([{ port, service: 'results' }]);
  },
);

test('leaves a checked port free', async () => {
  const port = await whileListening(undefined, async () => {});
  await requireFreePorts([{ port, service: 'one' }]);
  await requireFreePorts([{ port, host: '127.0.0.1', service: 'other' }]);
});
