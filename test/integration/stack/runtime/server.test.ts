import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { Hono } from 'hono';
import { afterEach, expect, test } from 'vitest';
import { until } from '#kit/until.ts';
import { ConfigError } from '#runtime/config.ts';
import { ACCEPTORS_FOR_A_CROWD, type Listening, listen } from '#runtime/server.ts';

const HOST = '127.0.0.1';
const CLIENTS = 160;
/** One socket accepts one connection per turn of the event loop, far fewer than this. */
const TURNS_MAX = CLIENTS / 2;

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

async function serve(acceptors: number, onRequest: () => void = () => {}): Promise<Listening> {
  const counted = new Hono().get('/', (c) => {
    onRequest();
    return c.text('hello');
  });
  const server = await listen(counted, 0, { hostname: HOST, acceptors });
  cleanups.push(server.close);
  return server;
}

/** Clients that the kernel has connected and whose requests it holds before the server's event loop runs. */
async function crowd(port: number): Promise<Socket[]> {
  return Promise.all(
    Array.from({ length: CLIENTS }, async () => {
      const socket = connect(port, HOST);
      cleanups.push(() => socket.destroy());
      await once(socket, 'connect');
      socket.write(`GET / HTTP/1.1\r\nHost: ${HOST}\r\n\r\n`);
      return socket;
    }),
  );
}

test.runIf(process.platform === 'linux')(
  'a crowd of new connections is let in within a few turns of the event loop',
  async () => {
    let asked = 0;
    let isOver = false;
    let turns = 0;
    let turnsNeeded: number | undefined;
    const { port } = await serve(ACCEPTORS_FOR_A_CROWD, () => {
      asked += 1;
      if (asked === CLIENTS) turnsNeeded = turns;
    });
    const turn = (): void => {
      // Counts from the first accepted connection, so the rate of connecting does not matter.
      if (asked > 0) turns += 1;
      if (!isOver) setImmediate(turn);
    };
    const sockets = crowd(port);
    // Blocks the event loop while the connections queue in the kernel.
    const gathered = performance.now() + 300;
    while (performance.now() < gathered);
    turn();
    await sockets;
    while (turnsNeeded === undefined) await new Promise((resolve) => setImmediate(resolve));
    isOver = true;
    expect(turnsNeeded).toBeLessThan(TURNS_MAX);
  },
);

test('refuses a port in use, whether its owner shares it or not', async () => {
  for (const acceptors of [1, ACCEPTORS_FOR_A_CROWD]) {
    const { port } = await serve(acceptors);
    for (const others of [1, ACCEPTORS_FOR_A_CROWD]) {
      await expect(listen(new Hono(), port, { hostname: HOST, acceptors: others })).rejects.toThrow(
        ConfigError,
      );
    }
  }
});

test('a graceful stop finishes open requests and closes idle connections of every socket', async () => {
  const { port, close } = await serve(ACCEPTORS_FOR_A_CROWD);
  const sockets = await crowd(port);
  const answers = sockets.map(async (socket) => {
    let text = '';
    socket.setEncoding('utf8').on('data', (data: string) => {
      text += data;
    });
    await until('it is answered', () => text.endsWith('hello'));
  });
  await Promise.all(answers);
  const ends = sockets.map((socket) => once(socket, 'close'));
  await close();
  await Promise.all(ends);
  await expect(once(connect(port, HOST), 'connect')).rejects.toThrow('ECONNREFUSED');
});
