import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { createDatabase } from '#kit/postgres.ts';
import { freePort, scratchFolder, startNode, untilReady } from '#kit/process.ts';
import { startRedis } from '#kit/redis.ts';
import { until } from '#kit/until.ts';
import { capture } from './nodes.ts';

const MAIN = join(ROOT, 'handlers/dashboard/main.ts');
const HEADERS = { Authorization: `Basic ${Buffer.from('sre:password1').toString('base64')}` };

const cleanups: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

async function start(env: { DATABASE_URL: string; QUEUE_NODES: string }) {
  const folder = await scratchFolder();
  cleanups.push(() => folder.remove());
  const [port, adminPort] = [await freePort(), await freePort()];
  const dashboard = startNode(
    MAIN,
    { ...env, DASHBOARD_USERS: 'sre:password1', PORT: String(port), ADMIN_PORT: String(adminPort) },
    join(folder.path, 'dashboard.log'),
  );
  cleanups.push(() => dashboard.end('SIGKILL'));
  await untilReady(dashboard, adminPort);
  return { dashboard, url: `http://127.0.0.1:${port}` };
}

test('serves audit and queues to known users, and stops on SIGTERM', async () => {
  const database = await createDatabase();
  cleanups.push(() => database.remove());
  const redis = await startRedis();
  cleanups.push(() => redis.remove());
  await capture(redis, 'frontend01.t0-1', 2);
  const { dashboard, url } = await start({ DATABASE_URL: database.url, QUEUE_NODES: redis.socket });

  for (const path of ['/', '/ledger', '/queues', '/queues/static/images/logo.svg']) {
    expect((await fetch(`${url}${path}`)).status).toBe(401);
    const response = await fetch(`${url}${path}`, { headers: HEADERS });
    expect(response.status, path).toBe(200);
    await response.text();
  }
  await until('the votes are seen', async () => {
    const response = await fetch(`${url}/ledger`, { headers: HEADERS });
    const { total } = (await response.json()) as { total: { accepted: number; pending: number } };
    return total.accepted === 3 && total.pending === 3;
  });
  expect(await dashboard.end('SIGTERM')).toBe(0);
});

test('starts while nodes and Postgres are down', async () => {
  const port = await freePort();
  const { dashboard, url } = await start({
    DATABASE_URL: `postgres://turnout@127.0.0.1:${port}/nothing`,
    QUEUE_NODES: `127.0.0.1:${port}`,
  });
  const response = await fetch(`${url}/ledger`, { headers: HEADERS });
  expect(await response.json()).toMatchObject({
    reconciledAt: null,
    postgres: { reachable: false },
    queues: [{ address: `127.0.0.1:${port}`, reachable: false }],
  });
  expect((await fetch(`${url}/queues/api/queues`, { headers: HEADERS })).status).toBe(200);
  expect(await dashboard.end('SIGTERM')).toBe(0);
});
