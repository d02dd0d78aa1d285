import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Cluster } from '#dev/cluster/cluster.ts';
import type { Engine } from '#dev/cluster/engine.ts';
import { ROOT } from '#dev/root.ts';
import { ask } from '#kit/raw-http.ts';
import { askProxy, basicAuth, containerOf, credential, VOTE_HOST } from './system.ts';

const CONNECT_MS_MAX = 2_000;

/** Script for a container: tries to connect and prints `open` or the reason of the failure. */
const CONNECT = `
  const [host, port] = process.argv.slice(1);
  const socket = require('node:net').connect({ host, port, timeout: ${CONNECT_MS_MAX} });
  const end = (word) => { console.log(word); process.exit(); };
  socket.on('connect', () => end('open')).on('error', ({ code }) => end(code)).on('timeout', () => end('timeout'));
`;

/** Script for a container: sends an HTTP request and prints the status. */
const REQUEST = `
  const [method, url] = process.argv.slice(1);
  fetch(url, { method, signal: AbortSignal.timeout(5000) }).then(({ status }) => console.log(status), (e) => console.log(e.cause?.code ?? e.name));
`;

async function inContainer(
  engine: Engine,
  service: string,
  script: string,
  ...args: string[]
): Promise<string> {
  return engine.docker('exec', await containerOf(engine, service), 'node', '-e', script, ...args);
}

/** Returns the address of a service's container in a network. */
async function addressOf(engine: Engine, service: string, network: string): Promise<string> {
  const format = `{{(index .NetworkSettings.Networks "turnout_${network}").IPAddress}}`;
  return engine.docker('inspect', '--format', format, await containerOf(engine, service));
}

export function testIsolation(cluster: Cluster): void {
  testNetworks(cluster);
  testExposure(cluster);
}

/** Network reachability. Each refused connection is paired with a permitted one, so that a typo does not pass as isolation. */
function testNetworks(cluster: Cluster): void {
  // Functions, because the engines exist only once the cluster is open.
  const frontend = (): Engine => cluster.engine('frontend01');
  const store = (): Engine => cluster.engine('store');

  test('a vote handler connects neither to Postgres nor to another node’s Redis; a worker connects to both', async () => {
    const postgres = await addressOf(store(), 'postgres', 'store');
    const redis = await addressOf(cluster.engine('frontend02'), 'redis', 'capture');
    const worker = cluster.engine('worker01');
    for (const [address, port] of [
      [postgres, '5432'],
      [redis, '6379'],
    ] as const) {
      expect(await inContainer(worker, 'worker', CONNECT, address, port)).toBe('open');
      expect(await inContainer(frontend(), 'vote', CONNECT, address, port)).not.toBe('open');
    }
    expect(await inContainer(worker, 'worker', CONNECT, 'postgres', '5432')).toBe('open');
    expect(await inContainer(frontend(), 'vote', CONNECT, 'postgres', '5432')).not.toBe('open');
    expect(await inContainer(frontend(), 'vote', CONNECT, 'tasks.redis', '6379')).not.toBe('open');
    expect(await inContainer(frontend(), 'vote', CONNECT, 'docker-api', '2375')).not.toBe('open');
  });

  test('results connect to no Redis, and the proxy to neither Redis nor Postgres', async () => {
    expect(await inContainer(store(), 'results', CONNECT, 'tasks.redis', '6379')).not.toBe('open');
    const interlock = cluster.engine('interlock');
    const proxy = await containerOf(interlock, 'proxy');
    const open = async (host: string, port: number): Promise<string> =>
      interlock.docker(
        'exec',
        proxy,
        'bash',
        '-c',
        `timeout 2 bash -c 'exec 3<>/dev/tcp/${host}/${port}' 2>/dev/null && echo open || echo closed`,
      );
    expect(await open(await addressOf(frontend(), 'vote', 'public'), 8080)).toBe('open');
    expect(await open(await addressOf(frontend(), 'redis', 'capture'), 6379)).toBe('closed');
    expect(await open(await addressOf(store(), 'postgres', 'store'), 5432)).toBe('closed');
  });

  test('the Docker API filter passes a few reads and no write', async () => {
    const interlock = cluster.engine('interlock');
    const requestApi = (method: string, path: string): Promise<string> =>
      inContainer(interlock, 'interlock', REQUEST, method, `http://docker-api:2375${path}`);
    expect(await requestApi('GET', '/services')).toBe('200');
    const container = await containerOf(interlock, 'interlock');
    for (const [method, path] of [
      ['GET', '/containers/json'],
      ['GET', '/secrets'],
      ['GET', '/swarm'],
      ['GET', '/info'],
      ['POST', '/containers/create'],
      ['POST', `/containers/${container}/exec`],
      ['POST', '/services/create'],
      ['DELETE', '/services/turnout_vote'],
      ['PUT', '/services'],
      ['GET', '/services/../containers/json'],
      ['GET', '/v1.41//containers/json'],
    ] as const) {
      expect(await requestApi(method, path), `${method} ${path}`).toBe('403');
    }
  });
}

/** What a cluster exposes to clients, and what a compromised process could do. */
function testExposure(cluster: Cluster): void {
  test('images carry OCI labels, NOTICES and an SBOM', async () => {
    const manifest = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
    const engine = cluster.engine('frontend01');
    const container = await containerOf(engine, 'vote');
    const labels = JSON.parse(
      await engine.docker('inspect', '--format', '{{json .Config.Labels}}', container),
    );
    expect(labels).toMatchObject({
      'org.opencontainers.image.version': manifest.version,
      'org.opencontainers.image.revision': expect.stringMatching(/^[0-9a-f]{40}$/),
      'org.opencontainers.image.licenses': manifest.license,
      'org.opencontainers.image.description': manifest.description,
    });
    expect(await engine.docker('exec', container, 'cat', 'NOTICES.txt')).toContain('hono');
    const sbom = JSON.parse(await engine.docker('exec', container, 'cat', 'sbom.cdx.json'));
    expect(sbom).toMatchObject({ bomFormat: 'CycloneDX' });
  });

  test('only the proxy publishes ports', async () => {
    const isOpen = (host: string, port: number): Promise<boolean> =>
      new Promise((resolve) => {
        const socket = connect({ host, port, timeout: CONNECT_MS_MAX });
        const end = (answer: boolean): void => {
          socket.destroy();
          resolve(answer);
        };
        socket
          .once('connect', () => end(true))
          .once('error', () => end(false))
          .once('timeout', () => end(false));
      });
    expect(await isOpen(cluster.proxyAddress, 80)).toBe(true);
    for (const { node } of [
      ...cluster.engines('frontend'),
      ...cluster.engines('worker'),
      ...cluster.engines('store'),
    ]) {
      for (const port of [80, 5432, 6379, 8080, 8081, 8082, 8085, 9080, 9081, 9082, 9083, 9084, 9085, 2375]) {
        expect(await isOpen(node.address, port), `${node.name}:${port}`).toBe(false);
      }
    }
    for (const port of [9080, 9084, 2375, 6379, 8080, 8443]) {
      expect(await isOpen(cluster.proxyAddress, port), `proxy:${port}`).toBe(false);
    }
  });

  test('hides health and metrics from voters, and protects statistics with a password', async () => {
    for (const path of [
      '/metrics',
      '/healthz',
      '/startupz',
      '/readyz',
      '//metrics',
      '/metrics/',
      '/%6Detrics',
    ]) {
      expect((await askProxy(cluster, VOTE_HOST, path)).status, path).toBe(404);
    }
    const statistics = `http://${cluster.proxyAddress}:8404`;
    expect((await ask(statistics, '/metrics')).status).toBe(401);
    expect((await ask(statistics, '/')).status).toBe(401);
    const headers = basicAuth(cluster, 'statistics');
    expect((await ask(statistics, '/metrics', 'GET', headers)).body).toContain('haproxy_backend_');
  });

  test('runs no process as root, with a read-only file system and no secret in image or environment', async () => {
    for (const [engine, service] of [
      [cluster.engine('frontend01'), 'vote'],
      [cluster.engine('frontend01'), 'redis'],
      [cluster.engine('worker01'), 'worker'],
      [cluster.engine('store'), 'postgres'],
      [cluster.engine('store'), 'results'],
      [cluster.engine('store'), 'dashboard'],
      [cluster.engine('interlock'), 'proxy'],
      [cluster.engine('interlock'), 'interlock'],
    ] as const) {
      const container = await containerOf(engine, service);
      const run = (script: string): Promise<string> => engine.docker('exec', container, 'sh', '-c', script);
      expect(await run('id -u'), service).not.toBe('0');
      expect(await run('touch /app/x /usr/x 2>/dev/null && echo yes || echo no'), service).toBe('no');
      expect(await run('sed -n "s/^CapEff:[[:space:]]*//p" /proc/1/status'), service).toBe(
        '0000000000000000',
      );
      const described = await engine.docker('inspect', container);
      for (const name of ['voter_key', 'redis_vote', 'worker', 'postgres', 'operator']) {
        expect(described.includes(credential(cluster, name)), `${service} shows ${name}`).toBe(false);
      }
    }
  });
}
