import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect as connectHttp2 } from 'node:http2';
import { type RequestOptions, request as requestTls } from 'node:https';
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
/** With TLS, and also without, so that both ways can be seen. */
const WITH_TLS = { TURNOUT_STACK_FILES: TLS_FILE, TLS_ONLY: 'false' };

/** What `echo.mjs` answers. */
interface Echo {
  readonly name: string;
  readonly task: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Makes a certificate for all names of the tests. */
async function makeCertificate(): Promise<{ cert: string; key: string }> {
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

/** Every label of the table, seen through requests. They are the proxy's business, so echoing services suffice. */
export function testLabels(cluster: Cluster): void {
  let cert = '';

  beforeAll(async () => {
    const pair = await makeCertificate();
    cert = pair.cert;
    await cluster.manager.createSecret('turnout_tls_cert', pair.cert);
    await cluster.manager.createSecret('turnout_tls_key', pair.key);
    await cluster.deploy(WITH_TLS);
    await cluster.manager.docker('stack', 'deploy', '--resolve-image', 'never', '-c', ECHO_FILE, 'echo');
    const hosts = ['sticky', 'hashed', 'canary', 'other', 'inner', 'named'].map((name) => `${name}.local/`);
    const urls = [...hosts, 'paths.local/shop', 'paths.local/api/'];
    await until(
      'every echo answers',
      async () => {
        const answers = await Promise.all(
          urls.map((url) => askProxy(cluster, url.split('/')[0] ?? '', url.slice(url.indexOf('/')))),
        );
        return answers.every(({ status }) => status === 200);
      },
      ROUTED_MS_MAX,
    );
    // Which is one task of each. The tests are about how several share the work.
    await until(
      'every task runs',
      async () => {
        const replicas = await cluster.manager.docker(
          'stack',
          'services',
          '--format',
          '{{.Replicas}}',
          'echo',
        );
        return replicas.split('\n').every((line) => /^(\d+)\/\1\b/.test(line));
      },
      ROUTED_MS_MAX,
    );
    await until('two sticky tasks answer', async () => (await stickyTasks()).size === 2, ROUTED_MS_MAX);
  }, DEPLOY_MS_MAX);
  afterAll(() => cluster.manager.docker('stack', 'rm', 'echo'), DEPLOY_MS_MAX);

  const echo = async (host: string, path = '/', headers: Record<string, string> = {}): Promise<Echo> => {
    const { status, body } = await askProxy(cluster, host, path, { headers });
    expect(status, `${host}${path}`).toBe(200);
    return JSON.parse(body);
  };
  const several = <T>(count: number, ask: (n: number) => Promise<T>): Promise<T[]> =>
    Promise.all(Array.from({ length: count }, (_, n) => ask(n)));

  const ofSessions = (): Promise<Echo[]> =>
    several(30, (n) => echo('sticky.local', '/', { cookie: `session=${n}` }));
  const stickyTasks = async (): Promise<Set<string>> => new Set((await ofSessions()).map(({ task }) => task));

  const askTls = async (host: string, path: string, options: RequestOptions = {}) => {
    const sent = requestTls({
      host: cluster.proxyAddress,
      port: 443,
      path,
      servername: host,
      ca: cert,
      headers: { host },
      agent: false,
      ...options,
    });
    sent.end();
    const [answer] = await once(sent, 'response');
    return { status: answer.statusCode, headers: answer.headers, body: await text(answer) };
  };

  test('hosts: unknown names get 404, any spelling of a known one is found', async () => {
    expect((await askProxy(cluster, 'nobody.local', '/')).status).toBe(404);
    expect((await echo('OTHER.local:80')).name).toBe('root');
  });

  test('ssl_cert and ssl_key: TLS by name, HTTP/2, and a cookie that is only sent over TLS', async () => {
    const page = await askTls(VOTE_HOST, '/');
    expect(page.status).toBe(200);
    expect(page.headers['strict-transport-security']).toContain('max-age=');
    const session = connectHttp2(`https://${cluster.proxyAddress}`, { ca: cert, servername: VOTE_HOST });
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

  test('ssl_only: plain HTTP is redirected once that is wanted', async () => {
    // The stack was deployed with TLS_ONLY=false; results are asked here for what the label does when it is true.
    await cluster.manager.docker(
      'service',
      'update',
      '--quiet',
      '--detach',
      '--label-add',
      'com.docker.lb.ssl_only=true',
      'turnout_results',
    );
    const answer = await until(
      'a redirect',
      async () => {
        const { status, headers } = await askProxy(cluster, 'results.votingapp.local', '/polls?x=1');
        return status !== 200 && status !== 404 && { status, location: headers['location'] };
      },
      ROUTED_MS_MAX,
    );
    expect(answer).toEqual({ status: 307, location: 'https://results.votingapp.local/polls?x=1' });
    expect((await askTls('results.votingapp.local', '/')).status).toBe(200);
  });

  test('ssl_passthrough: the task’s own certificate, and its own TLS', async () => {
    const { status, body } = await askTls('passthrough.local', '/inside');
    expect(status).toBe(200);
    expect(JSON.parse(body)).toMatchObject({ name: 'passthrough', url: '/inside' });
    // The proxy has no part in it, so no header of its own.
    expect(JSON.parse(body).headers['x-forwarded-for']).toBeUndefined();
    const socket = connectTls({
      host: cluster.proxyAddress,
      port: 443,
      servername: 'unknown.local',
      ca: cert,
    });
    await expect(once(socket, 'secureConnect')).rejects.toThrow();
  });

  test('ssl_backend: TLS to the task; with ssl_backend_tls_verify only to one whose certificate is trusted', async () => {
    expect((await echo('inner.local')).name).toBe('inner');
    expect((await askProxy(cluster, 'distrusted.local', '/')).status).toBe(503);
  });

  test('redirects: 302 to where the label says', async () => {
    const { status, headers } = await askProxy(cluster, 'old.local', '/anything');
    expect([status, headers['location']]).toEqual([302, 'http://paths.local/new']);
  });

  test('context_root: the longest prefix wins, at whole segments; context_root_rewrite strips it', async () => {
    expect(await echo('paths.local', '/shop/cart')).toMatchObject({ name: 'shop', url: '/shop/cart' });
    expect(await echo('paths.local', '/api/v1?x=/api')).toMatchObject({ name: 'api', url: '/v1?x=/api' });
    expect(await echo('paths.local', '/shopping')).toMatchObject({ name: 'root', url: '/shopping' });
  });

  test('sticky_session_cookie: a session stays with its task', async () => {
    const tasks = await ofSessions();
    expect(new Set(tasks.map(({ task }) => task)).size).toBe(2);
    const again = await ofSessions();
    expect(again.map(({ task }) => task)).toEqual(tasks.map(({ task }) => task));
  });

  test('ip_hash: an address stays with its task', async () => {
    const tasks = await several(20, () => echo('hashed.local'));
    expect(new Set(tasks.map(({ task }) => task)).size).toBe(1);
  });

  test('services that share a host share its requests by their tasks', async () => {
    await until(
      'all four tasks answer',
      async () => new Set((await several(40, () => echo('canary.local'))).map(({ task }) => task)).size === 4,
      ROUTED_MS_MAX,
    );
    const names = (await several(400, () => echo('canary.local'))).map(({ name }) => name);
    const share = names.filter((name) => name === 'canary').length / names.length;
    expect(share).toBeGreaterThan(0.15);
    expect(share).toBeLessThan(0.35);
  });

  test('network: the proxy reaches tasks through the one that is named', async () => {
    expect((await echo('named.local')).name).toBe('named');
  });

  test('service_cluster: another cluster’s service is not routed', async () => {
    expect((await askProxy(cluster, 'foreign.local', '/')).status).toBe(404);
  });

  test('websocket_endpoints: a connection is upgraded', async () => {
    const headers = [
      'host: paths.local',
      'connection: upgrade',
      'upgrade: websocket',
      'sec-websocket-version: 13',
    ];
    const key = 'sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==';
    const bytes = ['GET /api/socket HTTP/1.1', ...headers, key, '', ''].join('\r\n');
    const answer = await sendBytes(80, bytes, (answer) => answer.endsWith('hello'), cluster.proxyAddress);
    expect(answer).toContain('101 Switching Protocols');
  });

  test('a wrong label disables its own service alone, and the controller says which and why', async () => {
    expect((await askProxy(cluster, 'wrong.local', '/')).status).toBe(404);
    const log = await cluster.manager.docker('service', 'logs', '--raw', 'turnout_interlock');
    expect(
      log.split('\n').filter((line) => line.includes('echo_wrong') && line.includes('not_mounted')),
    ).toHaveLength(1);
  });

  test('default_backend: takes the hosts that nobody claims, once a service has it', async () => {
    const set = (option: string) =>
      cluster.manager.docker('service', 'update', '--quiet', '--detach', ...option.split(' '), 'echo_root');
    await set('--label-add com.docker.lb.default_backend=true');
    await until(
      'it answers',
      async () => (await askProxy(cluster, 'nobody.local', '/')).status === 200,
      ROUTED_MS_MAX,
    );
    expect((await echo('nobody.local')).name).toBe('root');
    await set('--label-rm com.docker.lb.default_backend');
    await until(
      '404 again',
      async () => (await askProxy(cluster, 'nobody.local', '/')).status === 404,
      ROUTED_MS_MAX,
    );
  });

  test('a service without tasks gets 503 with Retry-After', async () => {
    await cluster.manager.docker('service', 'scale', '--detach', 'echo_shop=0');
    const answer = await until(
      'nobody answers',
      async () => {
        const { status, headers } = await askProxy(cluster, 'paths.local', '/shop');
        return status === 503 && headers;
      },
      ROUTED_MS_MAX,
    );
    expect(Number(answer['retry-after'])).toBeGreaterThan(0);
  });
}
