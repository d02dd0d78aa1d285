import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer as createPlain, request as requestPlain } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { createServer, request } from 'node:https';
import { text } from 'node:stream/consumers';
import { connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Service } from '#interlock/docker.ts';
import { createAuthority, type TestAuthority, type TestCertificate } from '#kit/certificates.ts';
import { haproxyIsMissing, service } from '#kit/haproxy.ts';
import { scratchFolder } from '#kit/process.ts';
import { ask } from '#kit/raw-http.ts';
import { until } from '#kit/until.ts';
import { type Seen, startInterlock, type TestInterlock } from './interlock.ts';

const ANSWER_MS_MAX = 5_000;

/** The pair of RFC 6455. HAProxy looks whether the answer fits. */
const WEBSOCKET_KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
const WEBSOCKET_ANSWER = [
  'HTTP/1.1 101 Switching Protocols',
  'Upgrade: websocket',
  'Connection: Upgrade',
  'Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhYRbK+xOo=',
  '\r\n',
].join('\r\n');

describe.skipIf(haproxyIsMissing)('TLS', () => {
  let interlock: TestInterlock;
  let folder: Awaited<ReturnType<typeof scratchFolder>>;
  let authority: TestAuthority;
  let port: string;
  beforeAll(async () => {
    folder = await scratchFolder();
    authority = createAuthority(folder.path);
    interlock = await startInterlock({ env: { PROXY_BACKEND_CA: authority.cert } });
    port = String(interlock.taskPort);
  });
  afterAll(async () => {
    await interlock.close();
    await folder.remove();
  });

  /** Mounts files into the proxy, as `docker service update --secret-add` does. */
  function mount(files: Readonly<Record<string, string>>): void {
    const known = interlock.docker.services.get('proxy')?.secrets ?? [];
    const more = Object.entries(files).map(([name, file]) => ({ id: `id-${name}`, name, file }));
    interlock.docker.services.set(
      'proxy',
      service('proxy', { proxy: 'true' }, { secrets: [...known, ...more] }),
    );
  }

  /** Asks for a host over TLS, and refuses a certificate that is not good for it. */
  async function secure(host: string, path = '/', localAddress = '127.0.0.1') {
    const sent = request({
      host: '127.0.0.1',
      port: interlock.haproxy.tlsPort,
      servername: host,
      path,
      localAddress,
      headers: { host },
      ca: readFileSync(authority.cert),
      agent: false,
      signal: AbortSignal.timeout(ANSWER_MS_MAX),
    });
    sent.end();
    const [answer] = await once(sent, 'response');
    return { status: answer.statusCode, headers: answer.headers, body: await text(answer) };
  }

  async function untilSecure(host: string): Promise<Seen> {
    return until(`${host} is there with TLS`, async () => {
      const { status, body } = await secure(host);
      return status === 200 && (JSON.parse(body) as Seen);
    });
  }

  /** A task that speaks TLS. */
  const tlsTask = (address: string, { cert, key }: TestCertificate) =>
    interlock.task(address, (listener) =>
      createServer({ cert: readFileSync(cert), key: readFileSync(key) }, listener),
    );

  async function deploySecure(
    name: string,
    labels: Record<string, string>,
    address: string,
  ): Promise<Service> {
    const spec = service(name, { hosts: `${name}.test`, port, ...labels });
    await interlock.deploy(spec, [address]);
    return spec;
  }

  test('presents the certificate of each host, with its key in the same file or a separate one', async () => {
    const [one, two] = [authority.issue('one.test'), authority.issue('two.test')];
    mount({ 'one-both': one.both, 'two-cert': two.cert, 'two-key': two.key });
    await deploySecure('one', { ssl_cert: 'one-both' }, '127.0.6.1');
    await deploySecure('two', { ssl_cert: 'two-cert', ssl_key: 'two-key' }, '127.0.6.2');
    const seen = await untilSecure('one.test');
    expect(seen.task).toBe('127.0.6.1');
    expect(seen.headers['x-forwarded-proto']).toBe('https');
    expect((await untilSecure('two.test')).task).toBe('127.0.6.2');
    expect((await interlock.get('two.test')).headers['x-forwarded-proto']).toBe('http');
  });

  test('presents no certificate for an unclaimed or missing host', async () => {
    await untilSecure('one.test');
    await expect(secure('three.test')).rejects.toThrow(/unrecognized name|handshake/i);
  });

  test('sends HSTS and other security headers', async () => {
    await untilSecure('one.test');
    const { headers } = await secure('one.test');
    expect(headers['strict-transport-security']).toMatch(/^max-age=\d{8}/);
    expect(headers['x-content-type-options']).toBe('nosniff');
    const plain = await ask(interlock.url, '/', 'GET', { host: 'one.test' });
    expect(plain.headers['strict-transport-security']).toBeUndefined();
  });

  test('supports HTTP/2, and no TLS below 1.2', async () => {
    await untilSecure('one.test');
    const ca = readFileSync(authority.cert);
    const { tlsPort } = interlock.haproxy;
    const session = connectHttp2(`https://127.0.0.1:${tlsPort}`, { servername: 'one.test', ca });
    const stream = session.request({ ':authority': 'one.test', ':path': '/h2' });
    expect(JSON.parse(await text(stream)).path).toBe('/h2');
    session.close();
    const old = connectTls({
      port: tlsPort,
      host: '127.0.0.1',
      servername: 'one.test',
      ca,
      minVersion: 'TLSv1',
      maxVersion: 'TLSv1.1',
    });
    const [error] = await once(old, 'error');
    expect(String(error)).toMatch(/alert|protocol|version/i);
  });

  test('redirects to HTTPS with ssl_only, and keeps method and path', async () => {
    const { both } = authority.issue('only.test');
    mount({ 'only-both': both });
    await deploySecure('only', { ssl_cert: 'only-both', ssl_only: 'true' }, '127.0.6.11');
    await untilSecure('only.test');
    const { status, headers } = await ask(interlock.url, '/a?b=c', 'POST', { host: 'only.test:8080' });
    expect([status, headers['location']]).toEqual([307, 'https://only.test/a?b=c']);
  });

  test('reaches tasks over TLS, and with verification only those with a trusted certificate', async () => {
    const [good, self] = [authority.issue('checked.test'), authority.issue('somebody-else.test')];
    await tlsTask('127.0.6.21', good);
    await tlsTask('127.0.6.22', self);
    const tls = { ssl_backend: 'true' };
    for (const [name, address, labels] of [
      ['checked', '127.0.6.21', { ...tls, ssl_backend_tls_verify: 'required' }],
      ['unchecked', '127.0.6.22', tls],
      ['forged', '127.0.6.22', { ...tls, ssl_backend_tls_verify: 'required' }],
    ] as const) {
      interlock.dns.names.set(`tasks.${name}.net`, [address]);
      await interlock.deploy(service(name, { hosts: `${name}.test`, port, ...labels }));
    }
    await until('the verified task responds', () => interlock.get('checked.test'));
    await until('the unverified task responds', () => interlock.get('unchecked.test'));
    await until('503', async () => (await interlock.status('forged.test')) === 503);
  });

  test('passes TLS through by SNI, beside sites whose TLS it terminates', async () => {
    const own = authority.issue('through.test', 'through2.test');
    await tlsTask('127.0.6.31', own);
    interlock.dns.names.set('tasks.through.net', ['127.0.6.31']);
    await interlock.deploy(
      service('through', {
        hosts: 'through.test,through2.test',
        port,
        ssl_passthrough: 'true',
        ssl_only: 'true',
      }),
    );
    const seen = await untilSecure('through.test');
    expect(seen.task).toBe('127.0.6.31');
    // Nothing has been added on the way.
    expect(seen.headers['x-forwarded-for']).toBeUndefined();
    expect((await untilSecure('through2.test')).task).toBe('127.0.6.31');
    const plain = await ask(interlock.url, '/x', 'GET', { host: 'through.test' });
    expect([plain.status, plain.headers['location']]).toEqual([307, 'https://through.test/x']);

    const { body } = await until('the other sites', () => secure('one.test', '/', '127.0.77.7'));
    expect((JSON.parse(body) as Seen).headers['x-forwarded-for']).toBe('127.0.77.7');
    await expect(secure('three.test')).rejects.toThrow(/unrecognized name|handshake/i);
    interlock.undeploy('through');
    await until('it is gone', () =>
      secure('through.test').then(
        () => false,
        () => true,
      ),
    );
    await untilSecure('one.test');
  });

  test('presents the certificate of the default backend for all other hosts', async () => {
    const { both } = authority.issue('any.test');
    mount({ 'any-both': both });
    await interlock.deploy(service('any', { default_backend: 'true', ssl_cert: 'any-both', port }), [
      '127.0.6.41',
    ]);
    expect((await untilSecure('any.test')).task).toBe('127.0.6.41');
    await untilSecure('one.test');
    interlock.undeploy('any');
    await until('it is gone', async () => (await interlock.status('any.test')) === 404);
  });

  test('upgrades a connection to WebSocket', async () => {
    await interlock.deploy(service('socket', { hosts: 'socket.test', port, websocket_endpoints: '/ws' }));
    const task = await interlock.task('127.0.6.51', (listener) => {
      const server = createPlain(listener);
      server.on('upgrade', (_request, socket) => {
        socket.write(WEBSOCKET_ANSWER);
        socket.on('data', (data) => socket.write(`echo ${data}`));
        socket.on('end', () => socket.end());
        socket.on('error', () => {});
      });
      return server;
    });
    interlock.dns.names.set('tasks.socket.net', [task.address]);
    await until('it is routed', () => interlock.get('socket.test'));
    const sent = requestPlain(`${interlock.url}/ws`, {
      headers: {
        host: 'socket.test',
        connection: 'Upgrade',
        upgrade: 'websocket',
        'sec-websocket-key': WEBSOCKET_KEY,
        'sec-websocket-version': '13',
      },
    });
    sent.on('response', (answer) => sent.destroy(new Error(`status ${answer.statusCode}`)));
    sent.end();
    const [, socket] = await once(sent, 'upgrade');
    socket.write('hello');
    const [data] = await once(socket, 'data');
    expect(String(data)).toBe('echo hello');
    socket.destroy();
  });
});
