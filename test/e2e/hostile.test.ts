import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { enrolNode } from '#kit/node.ts';
import { scratchFolder } from '#kit/process.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { startService, type TestService, voteEnv } from '#kit/system.ts';
import { until } from '#kit/until.ts';

const VOTES = '/polls/cats-vs-dogs/votes';
const VOTES_CAST = 300;
const CLIENTS = 16;
const IDLE_CONNECTIONS = 5_000;
const SLOW_CONNECTIONS = 500;
/** Requests on one connection whose answers, some 40 MB, the client never reads. */
const UNREAD_REQUESTS = 4_000;
const MEGABYTES_MORE_MAX = 150;

let folder: Awaited<ReturnType<typeof scratchFolder>>;
let redis: TestRedis;
let handler: TestService;
const sockets: Socket[] = [];

beforeAll(async () => {
  folder = await scratchFolder();
  redis = await startRedis();
  await enrolNode(redis.client);
  handler = await startService({ bundle: 'vote', env: voteEnv('calm', redis.socket), folder: folder.path });
});
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
});
afterAll(async () => {
  await handler.end();
  await redis.remove();
  await folder.remove();
});

async function openConnections(count: number, firstBytes = ''): Promise<void> {
  for (let opened = 0; opened < count; opened += 100) {
    const some = Array.from({ length: Math.min(100, count - opened) }, () =>
      connect(handler.port, '127.0.0.1'),
    );
    for (const socket of some) socket.on('error', () => {});
    sockets.push(...some);
    await Promise.all(some.map((socket) => once(socket, 'connect')));
    if (firstBytes) for (const socket of some) socket.write(firstBytes);
  }
}

async function castVotes(): Promise<void> {
  let left = VOTES_CAST;
  const client = async (): Promise<void> => {
    while (left-- > 0) {
      const answer = await fetch(`${handler.url}${VOTES}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: '{"choice":"cats"}',
        signal: AbortSignal.timeout(5_000),
      });
      expect(answer.status).toBe(202);
      await answer.text();
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, client));
}

async function residentMegabytes(): Promise<number> {
  const status = await readFile(`/proc/${handler.child.pid}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1]) / 1_024;
}

describe('voters are served and memory stays bounded, despite', () => {
  test(`${IDLE_CONNECTIONS} connections that send nothing`, async () => {
    await castVotes();
    const before = await residentMegabytes();
    await openConnections(IDLE_CONNECTIONS);
    await castVotes();
    expect((await residentMegabytes()) - before).toBeLessThan(MEGABYTES_MORE_MAX);
  });

  test(`${SLOW_CONNECTIONS} clients that never finish their requests, until they are cut off`, async () => {
    await openConnections(SLOW_CONNECTIONS, `POST ${VOTES} HTTP/1.1\r\nHost: vote.test\r\nX-Slow: `);
    await castVotes();
    for (const socket of sockets) socket.resume();
    await until('all slow clients are cut off', () => sockets.every(({ closed }) => closed), 30_000);
    await castVotes();
  });

  test('a client that requests thousands of pages and reads none', async () => {
    await castVotes();
    const before = await residentMegabytes();
    await openConnections(1);
    const [greedy] = sockets;
    greedy?.pause();
    greedy?.write('GET / HTTP/1.1\r\nHost: vote.test\r\n\r\n'.repeat(UNREAD_REQUESTS));
    await castVotes();
    expect((await residentMegabytes()) - before).toBeLessThan(MEGABYTES_MORE_MAX);
    expect(handler.child.exitCode).toBeNull();
  });
});
