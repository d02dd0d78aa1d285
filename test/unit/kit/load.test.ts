import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { dueUntil, prepareLoad } from '#kit/load/generator.ts';
import { requestText } from '#kit/load/requests.ts';

let server: Server | undefined;

afterEach(async () => {
  if (!server) return;
  const closed = once(server, 'close');
  server.closeAllConnections();
  server.close();
  await closed;
  server = undefined;
});

interface Answer {
  readonly status: number;
  readonly delayMs?: number;
  readonly token?: string;
  readonly isLast?: boolean;
}

/** Starts a server that answers the n-th request, counted from 1, as `answerOf` says. */
async function serve(answerOf: (n: number, cookie: string) => Answer) {
  let [requests, connections] = [0, 0];
  server = createServer((request, response) => {
    const { status, delayMs = 0, token, isLast } = answerOf(++requests, request.headers.cookie ?? '');
    request.resume().on('end', () =>
      setTimeout(() => {
        response.writeHead(status, {
          ...(token && { 'Set-Cookie': `turnout_voter=${token}; Path=/` }),
          ...(isLast && { Connection: 'close' }),
          'Content-Length': 2,
        });
        response.end('{}');
      }, delayMs),
    );
  });
  server.on('connection', () => {
    connections += 1;
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return { targets: [{ port }], requests: () => requests, connections: () => connections };
}

describe('a closed loop', () => {
  test('counts every answer by its status', async () => {
    const { targets, requests, connections } = await serve((n) => ({
      status: n % 4 === 0 ? 503 : n % 4 === 1 ? 500 : 202,
    }));
    const load = await prepareLoad({ targets, kind: 'first', connections: 4, seconds: 0.15 });
    const primed = requests();
    const { accepted, refused, failed, latency, answers } = await load.run();
    expect(primed).toBe(4);
    expect(accepted + refused + failed).toBe(requests() - primed);
    expect(load.answered).toBe(requests() - primed);
    expect([answers['202']?.count, answers['503']?.count, answers['500']?.count]).toEqual([
      accepted,
      refused,
      failed,
    ]);
    expect(Math.abs(refused - requests() / 4)).toBeLessThanOrEqual(2);
    expect(Math.abs(failed - requests() / 4)).toBeLessThanOrEqual(2);
    expect(latency.p50).toBeLessThanOrEqual(latency.p99);
    expect(latency.p99).toBeLessThanOrEqual(latency.max);
    expect(connections()).toBe(4);
  });

  test('sends the token that a returning voter received last', async () => {
    const cookies: string[] = [];
    const { targets } = await serve((n, cookie) => {
      cookies.push(cookie);
      return { status: 202, token: `token-${n}` };
    });
    const load = await prepareLoad({ targets, kind: 'returning', connections: 1, seconds: 0.05 });
    await load.run();
    expect(cookies.slice(0, 3)).toEqual(['', 'turnout_voter=token-1', 'turnout_voter=token-2']);
  });

  test('runs until it is stopped, and reopens short-lived connections for every request', async () => {
    const { targets, requests, connections } = await serve((n) => {
      if (n === 40) load.stop();
      return { status: 202 };
    });
    const load = await prepareLoad({
      targets,
      kind: 'first',
      connections: 2,
      shortLived: 1,
      seconds: Number.POSITIVE_INFINITY,
    });
    const { answers } = await load.run();
    expect(Object.keys(answers)).toEqual(['202']);
    expect(requests()).toBeGreaterThanOrEqual(40);
    expect(connections()).toBeGreaterThan(2);
    expect(connections()).toBeLessThan(requests());
  });

  test('sends no request on a connection that the server announces to close', async () => {
    const { targets, requests, connections } = await serve(() => ({ status: 202, isLast: true }));
    const load = await prepareLoad({ targets, kind: 'first', connections: 2, seconds: 0.05 });
    const { answers } = await load.run();
    expect(Object.keys(answers)).toEqual(['202']);
    expect(connections()).toBe(requests());
  });

  test('counts a broken connection by the code of the error', async () => {
    const { targets, requests } = await serve((n) => {
      if (n === 2) server?.closeAllConnections();
      return { status: 202 };
    });
    const load = await prepareLoad({ targets, kind: 'first', connections: 1, seconds: 0.05 });
    const { failed, accepted, answers } = await load.run();
    expect(failed).toBe(1);
    expect(accepted).toBe(requests() - 2);
    expect(Object.keys(answers).sort()).toEqual(['202', expect.stringMatching(/^(closed|ECONNRESET)$/)]);
  });
});

test('voters are counted with the requests that opened connections, and page views are none', async () => {
  const { targets } = await serve((n) => ({ status: n === 2 ? 503 : 202, token: `token-${n}` }));
  const spec = { targets, connections: 4, seconds: 0.05 } as const;
  const first = await (await prepareLoad({ ...spec, kind: 'first' })).run();
  expect([first.primed, first.voters]).toEqual([3, first.accepted + 3]);
  const returning = await (await prepareLoad({ ...spec, kind: 'returning' })).run();
  expect([returning.primed, returning.voters]).toEqual([4, 4]);
  expect((await (await prepareLoad({ ...spec, kind: 'page' })).run()).voters).toBe(0);
});

describe('an open loop', () => {
  test('does not send what has waited too long for a connection', async () => {
    const { targets, requests } = await serve((n) => ({ status: 202, delayMs: n > 1 ? 300 : 0 }));
    const load = await prepareLoad({
      targets,
      kind: 'first',
      connections: 1,
      seconds: 0.2,
      rates: [{ atSeconds: 0, perSecond: 100 }],
      patienceMs: 50,
    });
    const { accepted, failed, sentInTime, answers } = await load.run();
    expect(accepted + failed).toBe(20);
    expect(accepted).toBe(requests() - 1);
    expect(failed).toBeGreaterThan(10);
    expect(answers['gave up']?.count).toBe(failed);
    expect(sentInTime).toBeLessThanOrEqual(accepted);
  });

  test('sends requests at its rates, independent of the answers', async () => {
    const { targets, requests } = await serve(() => ({ status: 202 }));
    const load = await prepareLoad({
      targets,
      kind: 'first',
      connections: 8,
      seconds: 0.4,
      rates: [{ atSeconds: 0, perSecond: 500 }],
      intervalMs: 100,
    });
    const { accepted, intervals } = await load.run();
    expect(accepted).toBe(200);
    expect(requests()).toBe(208);
    expect(intervals.map(({ offered }) => offered)).toEqual([49, 50, 50, 50, 1]);
  });

  test('counts the wait for a free connection as latency', async () => {
    // With one connection, every request behind the slow answer is due long before it can be sent.
    const { targets } = await serve((n) => ({ status: n > 10 ? 503 : 202, delayMs: n === 2 ? 150 : 0 }));
    const load = await prepareLoad({
      targets,
      kind: 'first',
      connections: 1,
      seconds: 0.1,
      rates: [{ atSeconds: 0, perSecond: 200 }],
    });
    const { latency, accepted, acceptedInTime, refused, sentInTime, answers } = await load.run();
    expect([accepted, refused]).toEqual([9, 11]);
    expect(latency.p50).toBeGreaterThan(100);
    expect(latency.max).toBeGreaterThanOrEqual(140);
    expect(answers['503']?.latency.p50).toBeGreaterThan(50);
    expect([sentInTime, acceptedInTime]).toEqual([1, 0]);
  });
});

test('the number of requests due is the area under the rates', () => {
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

test('a vote states the length of its body', () => {
  for (const kind of ['first', 'returning', 'form'] as const) {
    const [head = '', body = ''] = requestText(kind, { port: 8080 }, 'token').split('\r\n\r\n');
    expect(head).toContain(`Content-Length: ${body.length}`);
    expect(head.includes('Cookie: turnout_voter=token')).toBe(kind === 'returning');
  }
});
