import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { Registry } from '@prometheus-io/client';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Controller } from '#interlock/controller.ts';
import { DockerApi } from '#interlock/docker.ts';
import { createInterlockMetrics } from '#interlock/metrics.ts';
import { composeModel, type Model } from '#interlock/model.ts';
import { HaProxy, ProxyDownError } from '#interlock/proxy.ts';
import { haproxyIsMissing, service, startDns, startDocker, startHaProxy } from '#kit/haproxy.ts';
import { recordLog } from '#kit/log.ts';
import { scratchFolder } from '#kit/process.ts';
import { until } from '#kit/until.ts';
import { Readiness } from '#runtime/readiness.ts';

const EDGE = { postRateMax: 0, postRateNetworks: [], trustedProxies: [], proxyProtocolFrom: [] };
const MODEL: Model = composeModel([], { ...EDGE, proxies: 1, version: [3, 2] }).model;

/**
 * The socket of the master process of HAProxy 3, as its manual describes it: `reload` responds once the reload has ended. No
 * HAProxy 3 was available, so this stands in for it; all other tests use HAProxy 2.6.
 */
describe('the master of HAProxy 3', () => {
  let scratch: Awaited<ReturnType<typeof scratchFolder>>;
  let server: Server;
  let reloadAnswer: string;
  let commands: string[];

  beforeEach(async () => {
    scratch = await scratchFolder();
    await mkdir(join(scratch.path, 'tls'));
    await mkdir(join(scratch.path, 'good'));
    await writeFile(join(scratch.path, 'good/routes.cfg'), '# good\n');
    commands = [];
    server = createServer((socket) => {
      socket.on('data', (data) => {
        const command = String(data).trim();
        commands.push(command);
        socket.end(answerOf(command));
      });
    });
    await new Promise<void>((resolve) => server.listen(join(scratch.path, 'master.sock'), resolve));
  });
  afterEach(async () => {
    server.close();
    await scratch.remove();
  });

  function answerOf(command: string): string {
    if (command === 'reload') return reloadAnswer;
    if (command !== 'show proc') return '';
    return [
      '#<PID>          <type>          <reloads>       <uptime>        <version>',
      '1               master          4 [failed: 0]   0d00h01m28s     3.2.4-98813a1',
      '# workers',
      '9               worker          0               0d00h00m00s     3.2.4-98813a1',
      '# programs\n',
    ].join('\n');
  }

  test.each([
    ['accepts', 'Success=1\n--\n[NOTICE] : Loading success.\n', true],
    ['rejects', 'Success=0\n--\n[ALERT] : config : unknown keyword\n', false],
  ])('%s routes, and says so itself', async (_what, answer, isAccepted) => {
    reloadAnswer = answer;
    const proxy = new HaProxy(scratch.path);
    expect(await proxy.apply(MODEL, '{}')).toBe(isAccepted);
    // The counter of reloads did not change, so the answer was read.
    expect(commands.at(-1)).toBe('reload');
    const routes = await readFile(join(scratch.path, 'conf.d/routes.cfg'), 'utf8');
    expect(routes === '# good\n').toBe(!isAccepted);
  });

  test('gets routes for its version', async () => {
    reloadAnswer = 'Success=1\n';
    const docker = await startDocker();
    docker.networks.set('n1', 'net');
    docker.services.set('proxy', service('proxy', { proxy: 'true' }));
    docker.services.set('one', service('one', { hosts: 'one.test', port: '80', ip_hash: 'true' }));
    const controller = new Controller({
      docker: new DockerApi(docker.url),
      proxy: new HaProxy(scratch.path),
      certificatesDir: join(scratch.path, 'none'),
      cluster: '',
      edge: EDGE,
      log: recordLog().log,
      readiness: new Readiness('docker', 'proxy'),
      metrics: createInterlockMetrics(new Registry()),
    });
    controller.start();
    try {
      const routes = (): Promise<string> => readFile(join(scratch.path, 'good/routes.cfg'), 'utf8');
      await until('the routes are there', async () => (await routes()).includes(' hash-key addr'));
    } finally {
      await controller.stop();
      await docker.close();
    }
  });

  test('has a version', async () => {
    expect(await new HaProxy(scratch.path).version()).toEqual([3, 2]);
  });
});

describe.skipIf(haproxyIsMissing)('the master of the HAProxy of this machine', () => {
  test('has a version, and none while it is down', async () => {
    const dns = await startDns();
    const haproxy = await startHaProxy(dns.port);
    try {
      const proxy = new HaProxy(haproxy.folder);
      // The master listens again a moment after its worker.
      const version = await until('the master responds', () => proxy.version());
      expect(version).toEqual([expect.any(Number), expect.any(Number)]);
      await haproxy.stop();
      await expect(proxy.version()).rejects.toThrow(ProxyDownError);
    } finally {
      await haproxy.remove();
      await dns.close();
    }
  });
});
