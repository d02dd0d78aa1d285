import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import {
  haproxyIsMissing,
  service,
  startDns,
  startDocker,
  startHaProxy,
  type TestDns,
  type TestDocker,
  type TestHaProxy,
} from '#kit/haproxy.ts';
import { freePort, startNode, type TestProcess, untilReady } from '#kit/process.ts';
import { ask } from '#kit/raw-http.ts';
import { until } from '#kit/until.ts';

const BUNDLE = join(ROOT, 'dist/interlock.mjs');
const STOP_MS_MAX = 3_000;

describe.skipIf(haproxyIsMissing || !existsSync(BUNDLE))('the process', () => {
  let dns: TestDns;
  let docker: TestDocker;
  let haproxy: TestHaProxy;
  let controller: TestProcess | undefined;
  beforeAll(async () => {
    dns = await startDns();
    docker = await startDocker();
    haproxy = await startHaProxy(dns.port);
  });
  afterAll(async () => {
    await controller?.end();
    await haproxy.remove();
    await docker.close();
    await dns.close();
  });

  const start = (env: Record<string, string>): TestProcess =>
    startNode(BUNDLE, env, join(haproxy.folder, 'interlock.log'));

  test('exits on a wrong setting with one line that names it', async () => {
    const wrong = start({ DOCKER_API_URL: 'tcp://x', PROXY_DIR: 'run', POST_RATE_MAX: '-1' });
    expect(await until('it has ended', () => wrong.child.exitCode ?? undefined)).toBe(1);
    expect(await wrong.output()).toMatch(
      /DOCKER_API_URL must be http.*PROXY_DIR must be an absolute path.*POST_RATE_MAX must be a whole number/,
    );
  });

  test('routes the services of its cluster, reports its health, and stops gracefully', async () => {
    const adminPort = await freePort();
    const cluster = { service_cluster: 'west' };
    docker.networks.set('n1', 'net');
    docker.services.set('proxy', service('proxy', { proxy: 'true', ...cluster }));
    docker.services.set('vote', service('vote', { hosts: 'vote.test', port: '1', ...cluster }));
    docker.services.set('other', service('other', { hosts: 'other.test', port: '1' }));
    controller = start({
      ADMIN_PORT: String(adminPort),
      DOCKER_API_URL: docker.url,
      PROXY_DIR: haproxy.folder,
      SERVICE_CLUSTER: 'west',
    });
    await untilReady(controller, adminPort);
    const status = async (host: string): Promise<number> =>
      (await ask(`http://127.0.0.1:${haproxy.port}`, '/', 'GET', { host })).status;
    expect(await status('vote.test')).toBe(503);
    expect(await status('other.test')).toBe(404);
    const metrics = await (await fetch(`http://127.0.0.1:${adminPort}/metrics`)).text();
    expect(metrics).toContain('turnout_interlock_services{state="routed",process="interlock"} 1');
    expect(metrics).toContain('turnout_interlock_up{peer="docker",process="interlock"} 1');

    const beganAt = performance.now();
    expect(await controller.end()).toBe(0);
    expect(performance.now() - beganAt).toBeLessThan(STOP_MS_MAX);
    expect(await status('vote.test')).toBe(503);
  });
});
