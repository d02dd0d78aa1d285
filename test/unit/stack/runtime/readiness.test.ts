import { expect, test } from 'vitest';
import { createAdminApp } from '#runtime/admin.ts';
import { createMetrics } from '#runtime/metrics.ts';
import { Readiness } from '#runtime/readiness.ts';

const PATHS = ['/healthz', '/startupz', '/readyz'] as const;

async function ask(readiness: Readiness): Promise<number[]> {
  const app = createAdminApp(readiness, createMetrics('vote', readiness));
  return Promise.all(PATHS.map(async (path) => (await app.request(path)).status));
}

test('a process has started once all parts were ready at the same time, and stays started', async () => {
  const readiness = new Readiness('queue', 'server');
  expect(await ask(readiness)).toEqual([200, 503, 503]);
  readiness.ready('queue');
  expect(await ask(readiness)).toEqual([200, 503, 503]);
  readiness.notReady('queue', 'not connected');
  readiness.ready('server');
  expect(await ask(readiness)).toEqual([200, 503, 503]);
  readiness.ready('queue');
  expect(await ask(readiness)).toEqual([200, 200, 200]);
  readiness.notReady('queue', 'not connected');
  expect(await ask(readiness)).toEqual([200, 200, 503]);
});

test('a process that is not ready reports the reasons', async () => {
  const readiness = new Readiness('queue');
  readiness.notReady('queue', 'not connected');
  const app = createAdminApp(readiness, createMetrics('vote', readiness));
  for (const path of ['/startupz', '/readyz']) {
    expect(await (await app.request(path)).json()).toMatchObject({ reason: { queue: 'not connected' } });
  }
});
