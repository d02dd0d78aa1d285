import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { freePort } from '#kit/process.ts';
import { createAdminApp } from '#runtime/admin.ts';
import { createMetrics } from '#runtime/metrics.ts';
import { Readiness } from '#runtime/readiness.ts';
import { listen } from '#runtime/server.ts';

const HEALTH = join(ROOT, 'stack/images/health.sh');

const isHealthy = (port: number, path: string): Promise<boolean> =>
  new Promise((resolve) => {
    execFile('bash', [HEALTH, String(port), path], (error) => resolve(error === null));
  });

test('a container is healthy if its process answers 200', async () => {
  const readiness = new Readiness('queue');
  const admin = await listen(createAdminApp(readiness, createMetrics('vote', readiness)), 0);
  try {
    expect(await isHealthy(admin.port, '/healthz')).toBe(true);
    expect(await isHealthy(admin.port, '/startupz')).toBe(false);
    readiness.ready('queue');
    expect(await isHealthy(admin.port, '/startupz')).toBe(true);
  } finally {
    await admin.close();
  }
  expect(await isHealthy(await freePort(), '/healthz')).toBe(false);
});
