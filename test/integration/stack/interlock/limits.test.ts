import { once } from 'node:events';
import { type IncomingHttpHeaders, request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { haproxyIsMissing, service } from '#kit/haproxy.ts';
import { until } from '#kit/until.ts';
import { startInterlock, type TestInterlock, untilRouted } from './interlock.ts';

const POST_RATE_MAX = 20;
/** The period to which HAProxy relates a rate. */
const PERIOD_MS = 10_000;

describe.skipIf(haproxyIsMissing)('the POST limit', () => {
  let interlock: TestInterlock;
  beforeAll(async () => {
    interlock = await startInterlock({
      edge: {
        postRateMax: POST_RATE_MAX,
        postRateNetworks: [
          { network: '127.0.81.0/24', max: 2 * POST_RATE_MAX },
          { network: '127.0.82.0/24', max: 0 },
        ],
      },
    });
    const port = String(interlock.taskPort);
    await interlock.deploy(service('vote', { hosts: 'vote.test', port }), ['127.0.8.1']);
    await untilRouted(interlock, 'vote.test');
  });
  afterAll(() => interlock.close());

  /** Sends a request from another address of this machine. */
  async function send(localAddress: string, method = 'POST'): Promise<[number, IncomingHttpHeaders]> {
    const headers = { host: 'vote.test', ...(method === 'POST' && { 'content-length': 0 }) };
    const { port } = interlock.haproxy;
    const sent = request({ host: '127.0.0.1', port, method, localAddress, headers, agent: false });
    sent.end();
    const [answer] = await once(sent, 'response');
    answer.resume();
    return [answer.statusCode as number, answer.headers];
  }

  /** Returns how many of some POSTs sent at once pass. */
  async function passed(localAddress: string, count: number): Promise<number> {
    const statuses: number[] = [];
    for (let sent = 0; sent < count; sent++) statuses.push((await send(localAddress))[0]);
    expect(new Set(statuses).difference(new Set([200, 429]))).toEqual(new Set());
    return statuses.filter((status) => status === 200).length;
  }

  test('is per client and for POSTs only', async () => {
    expect(await passed('127.0.77.1', POST_RATE_MAX + 5)).toBe(POST_RATE_MAX);
    const [status, headers] = await send('127.0.77.1');
    expect(status).toBe(429);
    expect(Number(headers['retry-after'])).toBeGreaterThanOrEqual(5);
    expect((await send('127.0.77.2'))[0]).toBe(200);
    expect((await send('127.0.77.1', 'GET'))[0]).toBe(200);
  });

  test('still passes the limit of a client that sends twice as much', async () => {
    const beganAt = performance.now();
    let count = 0;
    for (let sent = 0; performance.now() - beganAt < 2 * PERIOD_MS; sent++) {
      const [status] = await send('127.0.77.3');
      if (status === 200) count += 1;
      const nextAt = beganAt + ((sent + 1) * PERIOD_MS) / (2 * POST_RATE_MAX);
      await sleep(Math.max(0, nextAt - performance.now()));
    }
    expect(count).toBeGreaterThan(1.5 * POST_RATE_MAX);
    expect(count).toBeLessThanOrEqual(2.5 * POST_RATE_MAX);
  });

  test('of a network with its own limit holds there instead of the common one', async () => {
    expect(await passed('127.0.81.7', 2 * POST_RATE_MAX + 5)).toBe(2 * POST_RATE_MAX);
    expect(await passed('127.0.82.7', 3 * POST_RATE_MAX)).toBe(3 * POST_RATE_MAX);
  });

  test('is shared by the proxies of the Swarm', async () => {
    interlock.docker.services.set('proxy', service('proxy', { proxy: 'true' }, { tasksWanted: 4 }));
    interlock.docker.announce();
    let client = 0;
    await until('the limit is a quarter', async () => {
      client += 1;
      return (await passed(`127.0.83.${client}`, POST_RATE_MAX)) === POST_RATE_MAX / 4;
    });
  });
});
