import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { dueUntil, prepareLoad } from '#bench/load/generator.ts';
import { requestText } from '#bench/load/requests.ts';

let server: Server | undefined;

afterEach(async () => {
  if (!server) return;
  const closed = once(server, 'close');
  server.closeAllConnections();
  server.close();
  await closed;
  server = undefined;
});

/** A server that answers with what `answer` says, after that many milliseconds. */
async function serve(
  answer: (nth: number, cookie: string) => { status: number; ms?: number; token?: string },
) {
  let requests = 0;
  server = createServer((request, response) => {
    const { status, ms = 0, token } = answer(++requests, request.headers.cookie ?? '');
    request.resume().on('end', () =>
      setTimeout(() => {
        const headers = token ? { 'Set-Cookie': `turnout_voter=${token}; Path=/` } : {};
        response.writeHead(status, { ...headers, 'Content-Length': 2 }).end('{}');
      }, ms),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { port: (server.address() as AddressInfo).port, requests: () => requests };
}

describe('a closed loop', () => {
  test('counts every answer as what it was', async () => {
    const { port, requests } = await serve((nth) => ({
      status: nth % 4 === 0 ? 503 : nth % 4 === 1 ? 500 : 202,
    }));
    const load = await prepareLoad({ ports: [port], kind: 'first', connections: 4, seconds: 0.3 });
    const primed = requests();
    const { accepted, refused, failed, latency } = await load.run();
    expect(primed).toBe(4);
    expect(accepted + refused + failed).toBe(requests() - primed);
    expect(refused / requests()).toBeCloseTo(1 / 4, 1);
    expect(failed / requests()).toBeCloseTo(1 / 4, 1);
    expect(latency.p50).toBeLessThanOrEqual(latency.p99);
    expect(latency.p99).toBeLessThanOrEqual(latency.max);
  });

  test('brings back the token that a returning voter was given last', async () => {
    const cookies: string[] = [];
    const { port } = await serve((nth, cookie) => {
      cookies.push(cookie);
      return { status: 202, token: `token-${nth}` };
    });
    const load = await prepareLoad({ ports: [port], kind: 'returning', connections: 1, seconds: 0.1 });
    await load.run();
    expect(cookies.slice(0, 3)).toEqual(['', 'turnout_voter=token-1', 'turnout_voter=token-2']);
  });
});

describe('an open loop', () => {
  test('offers what its rates say, whatever becomes of it', async () => {
    const { port, requests } = await serve(() => ({ status: 202 }));
    const rates = [{ atSeconds: 0, perSecond: 200 }];
    const order = {
      ports: [port],
      kind: 'first',
      connections: 8,
      seconds: 1,
      rates,
      intervalMs: 250,
    } as const;
    const load = await prepareLoad(order);
    const { accepted, intervals } = await load.run();
    expect(accepted).toBe(200);
    expect(requests()).toBe(208);
    expect(intervals.map(({ offered }) => offered)).toEqual([49, 50, 50, 50, 1]);
  });

  test('counts the wait for a free connection as latency', async () => {
    // One connection and one answer of 300 ms: those behind it were due long before they could be sent.
    const { port } = await serve((nth) => ({ status: 202, ms: nth === 2 ? 300 : 0 }));
    const rates = [{ atSeconds: 0, perSecond: 100 }];
    const load = await prepareLoad({ ports: [port], kind: 'first', connections: 1, seconds: 0.5, rates });
    const { latency } = await load.run();
    expect(latency.p50).toBeGreaterThan(30);
    expect(latency.max).toBeGreaterThanOrEqual(290);
  });
});

test('what is due is the area under the rates', () => {
  const rates = [
    { atSeconds: 0, perSecond: 10 },
    { atSeconds: 10, perSecond: 10 },
    { atSeconds: 12, perSecond: 110 },
  ];
  expect(dueUntil(rates, 10)).toBe(100);
  expect(dueUntil(rates, 11)).toBe(100 + 35);
  expect(dueUntil(rates, 12)).toBe(100 + 120);
  expect(dueUntil(rates, 14)).toBe(100 + 120 + 220);
});

test('a vote announces the length of its body', () => {
  for (const kind of ['first', 'returning', 'form'] as const) {
    const [head = '', body = ''] = requestText(kind, 8080, 'token').split('\r\n\r\n');
    expect(head).toContain(`Content-Length: ${body.length}`);
    expect(head.includes('Cookie: turnout_voter=token')).toBe(kind === 'returning');
  }
});
