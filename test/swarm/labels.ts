import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { IncomingHttpHeaders } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { request as requestTls } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Cluster } from '#dev/cluster/cluster.ts';
import { run } from '#dev/exec.ts';
import { ROOT } from '#dev/root.ts';
import { sendBytes } from '#kit/raw-http.ts';
import { until } from '#kit/until.ts';
import { askProxy, VOTE_HOST } from './system.ts';

const DEPLOY_MS_MAX = 10 * 60_000;
const ROUTED_MS_MAX = 4 * 60_000;
const TLS_FILE = join(ROOT, 'stack/tls.yml');
const ECHO_FILE = join(import.meta.dirname, 'echo.yml');
const HOSTS = [VOTE_HOST, 'results.votingapp.local', 'dashboard.votingapp.local', 'passthrough.local'];
/** TLS beside plain HTTP, so that both can be tested. */
const WITH_TLS = { TURNOUT_STACK_FILES: TLS_FILE, TLS_ONLY: 'false' };

/** The response of `echo.mjs`. */
interface Echo {
  readonly name: string;
  readonly task: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Creates a self-signed certificate for all host names of the tests. */
async function createCertificate(): Promise<{ cert: string; key: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'turnout-'));
  try {
    const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
    const args = [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-days',
      '2',
    ];
    const names = `subjectAltName=${HOSTS.map((host) => `DNS:${host}`).join(',')}`;
    await run(
      {
        command: 'openssl',
        args: [...args, '-subj', '/CN=cluster', '-addext', names, '-keyout', key, '-out', cert],
      },
      { what: 'openssl', msMax: 30_000, env: process.env },
    );
    return { cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Requests to the echo services, and to hosts with TLS. */
interface Client {
  /** Sends a GET that must be answered 200, and returns what arrived. */
  echo(host: string, path?: string, headers?: Record<string, string>): Promise<Echo>;
  /** Sends a GET over TLS with SNI. */
  getTls(host: string, path: string): Promise<{ status: number; headers: IncomingHttpHeaders; body: string }>;
  /** Returns the certificate of the proxy, which exists once the stack is deployed. */
  cert(): string;
}

const repeat = <T>(count: number, send: (n: number) => Promise<T>): Promise<T[]> =>
  Promise.all(Array.from({ length: count }, (_, n) => send(n)));

/** Every routing label, tested through requests to services that echo them. */
export function testLabels(cluster: Cluster): void {
  let cert = '';
  const client: Client = {
    echo: async (host, path = '/', headers = {}) => {
      const { status, body } = await askProxy(cluster, host, path, { headers });
      expect(status, `${host}${path}`).toBe(200);
      return JSON.parse(body);
    },
    getTls: async (host, path) => {
      const sent = requestTls({
        host: cluster.proxyAddress,
        port: 443,
        path,
        servername: host,
        ca: cert,
        headers: { host },
        agent: false,
      });
      sent.end();
      const [response] = await once(sent, 'response');
      return { status: response.statusCode, headers: response.headers, body: await text(response) };
    },
    cert: () => cert,
  };

  beforeAll(async () => {
    const pair = await createCertificate();
    cert = pair.cert;
    await cluster.manager.createSecret('turnout_tls_cert', pair.cert);
    await cluster.manager.createSecret('turnout_tls_key', pair.key);
    await installCertificate(cluster, pair);
    await cluster.deploy(WITH_TLS);
    await cluster.manager.docker('stack', 'deploy', '--resolve-image', 'never', '-c', ECHO_FILE, 'echo');
    await untilEchoServicesRun(cluster, client);
  }, DEPLOY_MS_MAX);
  afterAll(() => cluster.manager.docker('stack', 'rm', 'echo'), DEPLOY_MS_MAX);

  testTlsLabels(cluster, client);
  testPathLabels(cluster, client);
  testBalancingLabels(client);
  testFaultyLabels(cluster, client);
}

/** Installs the certificate `tls`, as an operator does. */
async function installCertificate(cluster: Cluster, pair: { cert: string; key: string }): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'turnout-'));
  try {
    const [cert, key] = [join(folder, 'cert.pem'), join(folder, 'key.pem')];
    writeFileSync(cert, pair.cert);
    writeFileSync(key, pair.key);
    // Swarm watches the new controller for 30 s.
    await cluster.manager.script('certificate.sh', ['tls', cert, key], { msMax: DEPLOY_MS_MAX });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Waits for one task of every service, then for all tasks, because the tests are about how several share requests. */
async function untilEchoServicesRun(cluster: Cluster, client: Client): Promise<void> {
  const hosts = ['sticky', 'hashed', 'canary', 'other', 'inner', 'named'].map((name) => `${name}.local/`);
  const urls = [...hosts, 'paths.local/shop', 'paths.local/api/'];
  await until(
    'every echo service responds',
    async () => {
      const responses = await Promise.all(
        urls.map((url) => askProxy(cluster, url.split('/')[0] ?? '', url.slice(url.indexOf('/')))),
      );
      return responses.every(({ status }) => status === 200);
    },
    ROUTED_MS_MAX,
  );
  await until(
    'every task runs',
    async () => {
      const format = ['--format', '{{.Replicas}}'];
      const replicas = await cluster.manager.docker('stack', 'services', ...format, 'echo');
      return replicas.split('\n').every((line) => /^(\d+)\/\1\b/.test(line));
    },
    ROUTED_MS_MAX,
  );
  await until(
    'two sticky tasks respond',
    async () => new Set(await tasksOfSessions(client)).size === 2,
    ROUTED_MS_MAX,
  );
}

/** Returns the task that serves each of thirty sessions. */
async function tasksOfSessions({ echo }: Client): Promise<string[]> {
  const echoes = await repeat(30, (n) => echo('sticky.local', '/', { cookie: `session=${n}` }));
  return echoes.map(({ task }) => task);
}

/** TLS and certificates. */
function testTlsLabels(cluster: Cluster, client: Client): void {
  const { echo, getTls, cert } = client;
  test('ssl_cert and ssl_key: TLS by SNI, HTTP/2, and a Secure cookie', async () => {
    const page = await getTls(VOTE_HOST, '/');
    expect(page.status).toBe(200);
    expect(page.headers['strict-transport-security']).toContain('max-age=');
    const session = connectHttp2(`https://${cluster.proxyAddress}`, { ca: cert(), servername: VOTE_HOST });
    const stream = session.request({
      ':method': 'POST',
      ':path': '/polls/cats-vs-dogs/votes',
      ':authority': VOTE_HOST,
      'content-type': 'application/json',
    });
    stream.end('{"choice":"cats"}');
    const [headers] = await once(stream, 'response');
    session.close();
    expect(headers[':status']).toBe(202);
    expect(String(headers['set-cookie'])).toContain('; Secure');
  });

  test('ssl_only: redirects plain HTTP', async () => {
    // The stack was deployed with TLS_ONLY=false.
    await cluster.manager.docker(
      'service',
      'update',
      '--quiet',
      '--detach',
      '--label-add',
      'com.docker.lb.ssl_only=true',
      'turnout_results',
    );
    const response = await until(
      'the redirect appears',
      async () => {
        const { status, headers } = await askProxy(cluster, 'results.votingapp.local', '/polls?x=1');
        return status !== 200 && status !== 404 && { status, location: headers['location'] };
      },
      ROUTED_MS_MAX,
    );
    expect(response).toEqual({ status: 307, location: 'https://results.votingapp.local/polls?x=1' });
    expect((await getTls('results.votingapp.local', '/')).status).toBe(200);
  });

  test('ssl_passthrough: the task terminates TLS with its own certificate', async () => {
    const { status, body } = await getTls('passthrough.local', '/inside');
    expect(status).toBe(200);
    expect(JSON.parse(body)).toMatchObject({ name: 'passthrough', url: '/inside' });
    // The proxy cannot add a header to an encrypted request.
    expect(JSON.parse(body).headers['x-forwarded-for']).toBeUndefined();
    const socket = connectTls({
      host: cluster.proxyAddress,
      port: 443,
      servername: 'unknown.local',
      ca: cert(),
    });
    await expect(once(socket, 'secureConnect')).rejects.toThrow();
  });

  test('ssl_backend: TLS to the task; with ssl_backend_tls_verify only if its certificate is trusted', async () => {
    expect((await echo('inner.local')).name).toBe('inner');
    expect((await askProxy(cluster, 'distrusted.local', '/')).status).toBe(503);
  });
}

/** Hosts, paths and redirects. */
function testPathLabels(cluster: Cluster, client: Client): void {
  const { echo } = client;
  test('hosts: an unknown name gets 404, a known one matches in any case and with a port', async () => {
    expect((await askProxy(cluster, 'unclaimed.local', '/')).status).toBe(404);
    expect((await echo('OTHER.local:80')).name).toBe('root');
  });

  test('redirects: 302 to the target of the label', async () => {
    const { status, headers } = await askProxy(cluster, 'old.local', '/anything');
    expect([status, headers['location']]).toEqual([302, 'http://paths.local/new']);
  });

  test('context_root: the longest prefix of whole segments wins; context_root_rewrite strips it', async () => {
    expect(await echo('paths.local', '/shop/cart')).toMatchObject({ name: 'shop', url: '/shop/cart' });
    expect(await echo('paths.local', '/api/v1?x=/api')).toMatchObject({ name: 'api', url: '/v1?x=/api' });
    expect(await echo('paths.local', '/shopping')).toMatchObject({ name: 'root', url: '/shopping' });
  });

  test('service_cluster: a service of another cluster is not routed', async () => {
    expect((await askProxy(cluster, 'foreign.local', '/')).status).toBe(404);
  });

  test('websocket_endpoints: upgrades a connection', async () => {
    const headers = [
      'host: paths.local',
      'connection: upgrade',
      'upgrade: websocket',
      'sec-websocket-version: 13',
    ];
    const key = 'sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==';
    const bytes = ['GET /api/socket HTTP/1.1', ...headers, key, '', ''].join('\r\n');
    const response = await sendBytes(
      80,
      bytes,
      (received) => received.endsWith('hello'),
      cluster.proxyAddress,
    );
    expect(response).toContain('101 Switching Protocols');
  });
}

/** Which of several tasks gets a request. */
function testBalancingLabels(client: Client): void {
  const { echo } = client;
  test('sticky_session_cookie: a session stays on its task', async () => {
    const tasks = await tasksOfSessions(client);
    expect(new Set(tasks).size).toBe(2);
    expect(await tasksOfSessions(client)).toEqual(tasks);
  });

  test('ip_hash: an address stays on its task', async () => {
    const tasks = await repeat(20, () => echo('hashed.local'));
    expect(new Set(tasks.map(({ task }) => task)).size).toBe(1);
  });

  test('services with the same host share its requests in proportion to their tasks', async () => {
    await until(
      'all four tasks respond',
      async () => new Set((await repeat(40, () => echo('canary.local'))).map(({ task }) => task)).size === 4,
      ROUTED_MS_MAX,
    );
    const names = (await repeat(400, () => echo('canary.local'))).map(({ name }) => name);
    const share = names.filter((name) => name === 'canary').length / names.length;
    expect(share).toBeGreaterThan(0.15);
    expect(share).toBeLessThan(0.35);
  });

  test('network: the proxy reaches tasks through the named overlay', async () => {
    expect((await echo('named.local')).name).toBe('named');
  });
}

/** Wrong labels, unclaimed hosts, and services without tasks. */
function testFaultyLabels(cluster: Cluster, client: Client): void {
  const { echo } = client;
  test('a wrong label disables its own service only, and the controller logs the reason once', async () => {
    expect((await askProxy(cluster, 'wrong.local', '/')).status).toBe(404);
    const log = await cluster.manager.docker('service', 'logs', '--raw', 'turnout_interlock');
    expect(
      log.split('\n').filter((line) => line.includes('echo_wrong') && line.includes('not_mounted')),
    ).toHaveLength(1);
  });

  test('default_backend: serves hosts that no service claims', async () => {
    const set = (option: string) =>
      cluster.manager.docker('service', 'update', '--quiet', '--detach', ...option.split(' '), 'echo_root');
    await set('--label-add com.docker.lb.default_backend=true');
    await until(
      'the default backend responds',
      async () => (await askProxy(cluster, 'unclaimed.local', '/')).status === 200,
      ROUTED_MS_MAX,
    );
    expect((await echo('unclaimed.local')).name).toBe('root');
    await set('--label-rm com.docker.lb.default_backend');
    await until(
      'unclaimed hosts get 404 again',
      async () => (await askProxy(cluster, 'unclaimed.local', '/')).status === 404,
      ROUTED_MS_MAX,
    );
  });

  test('a service without tasks gets 503 with Retry-After', async () => {
    await cluster.manager.docker('service', 'scale', '--detach', 'echo_shop=0');
    const response = await until(
      'no task responds',
      async () => {
        const { status, headers } = await askProxy(cluster, 'paths.local', '/shop');
        return status === 503 && headers;
      },
      ROUTED_MS_MAX,
    );
    expect(Number(response['retry-after'])).toBeGreaterThan(0);
  });
}
