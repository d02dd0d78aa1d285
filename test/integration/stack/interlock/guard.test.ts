import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { haproxyIsMissing, OPERATOR, service } from '#kit/haproxy.ts';
import { ask, sendBytes } from '#kit/raw-http.ts';
import { until } from '#kit/until.ts';
import { startInterlock, type TestInterlock, type TestTask, untilRouted } from './interlock.ts';

describe.skipIf(haproxyIsMissing)('the proxy', () => {
  let interlock: TestInterlock;
  let port: string;
  let task: TestTask;
  beforeAll(async () => {
    interlock = await startInterlock();
    port = String(interlock.taskPort);
    task = await interlock.task('127.0.7.1');
    interlock.dns.names.set('tasks.vote.net', ['127.0.7.1']);
    await interlock.deploy(service('vote', { hosts: 'vote.test', port }));
    const api = { hosts: 'vote.test', port, context_root: '/api', context_root_rewrite: 'true' };
    await interlock.deploy(service('api', api), ['127.0.7.2']);
    await untilRouted(interlock, 'vote.test', '/api/');
  });
  afterAll(() => interlock.close());

  test.each([
    '/healthz',
    '/readyz',
    '/metrics',
    '/metrics?x=y',
    '//healthz',
    '/%68ealthz',
    '/%2Fhealthz',
    '/HealthZ',
    '/healthz/',
    '/metrics/x',
    '/healthz;x',
    '/api/metrics',
    '/api//metrics',
    '/api/%6detrics',
    'http://vote.test/healthz',
  ])('never routes %s', async (path) => {
    const seen = task.paths.length;
    expect(await interlock.status('vote.test', path)).toBe(404);
    expect(task.paths.length).toBe(seen);
  });

  test.each(['/x/../healthz', '/./healthz', '/%2e%2e/healthz', '/api/..%2fhealthz', '/..'])(
    'refuses the dot segments of %s',
    async (path) => {
      expect(await interlock.status('vote.test', path)).toBe(400);
    },
  );

  test('routes paths that only resemble admin paths', async () => {
    for (const path of ['/healthzz', '/x/metrics', '/.well-known/x', '/a..b', '/readyz.html']) {
      expect((await interlock.get('vote.test', path)).path).toBe(path);
    }
  });

  test('passes the client’s address to the task, and drops forged headers', async () => {
    const { headers } = await interlock.get('vote.test', '/', {
      'x-forwarded-for': '6.6.6.6',
      'X-Forwarded-Proto': 'https',
      'x-forwarded-host': 'evil.test',
      'x-forwarded-port': '1',
      forwarded: 'for=6.6.6.6',
      'x-real-ip': '6.6.6.6',
      proxy: 'http://evil.test',
    });
    expect(headers).toMatchObject({
      'x-forwarded-for': '127.0.0.1',
      'x-forwarded-proto': 'http',
      'x-forwarded-host': 'vote.test',
    });
    expect(JSON.stringify(headers)).not.toMatch(/6\.6\.6\.6|evil|forwarded-port/);
  });

  test('adds security headers that the application lacks, and removes headers that disclose it', async () => {
    task.answer = (request, response) => {
      response.setHeader('Server', 'acme/1.0');
      response.setHeader('X-Powered-By', 'acme');
      if (request.url === '/own') response.setHeader('X-Frame-Options', 'DENY');
      response.end();
    };
    const plain = await ask(interlock.url, '/', 'GET', { host: 'vote.test' });
    expect(plain.headers).toMatchObject({
      'x-frame-options': 'SAMEORIGIN',
      'x-content-type-options': 'nosniff',
      'referrer-policy': 'strict-origin-when-cross-origin',
    });
    expect(plain.headers).not.toHaveProperty('server');
    expect(plain.headers).not.toHaveProperty('x-powered-by');
    const own = await ask(interlock.url, '/own', 'GET', { host: 'vote.test' });
    expect(own.headers['x-frame-options']).toBe('DENY');
    task.answer = undefined;
  });

  test.each([
    ['that does not finish its headers', 'POST / HTTP/1.1\r\nHost: vote.test\r\nX-Slow: '],
    [
      'that does not finish its body',
      'POST / HTTP/1.1\r\nHost: vote.test\r\nContent-Length: 100\r\n\r\nslow',
    ],
    ['that says nothing', ''],
  ])('cuts a client %s, and does not bother the task with it', async (_what, bytes) => {
    const seen = task.paths.length;
    const answer = await sendBytes(interlock.haproxy.port, bytes);
    expect(answer.slice(0, 12)).toMatch(/^(HTTP\/1.1 408)?$/);
    expect(task.paths.length).toBe(seen);
  });

  test('answers 503 while the tasks are at their connection limit', async () => {
    const full = await interlock.task('127.0.7.4');
    interlock.dns.names.set('tasks.full.net', [full.address]);
    await interlock.deploy(service('full', { hosts: 'full.test', port, task_connections_max: '1' }));
    await untilRouted(interlock, 'full.test');
    let finish = (): void => {};
    full.answer = (_request, response) => {
      finish = () => response.end('{}');
    };
    const seen = full.paths.length;
    const first = interlock.status('full.test', '/first');
    await until('the task is busy', () => full.paths.length > seen);
    const second = await ask(interlock.url, '/second', 'GET', { host: 'full.test' });
    expect(second.status).toBe(503);
    expect(second.headers['retry-after']).toBeDefined();
    finish();
    expect(await first).toBe(200);
    expect(full.paths).not.toContain('/second');
  });

  test('writes no address of a client to its output', async () => {
    const valid = 'GET / HTTP/1.1\r\nHost: vote.test\r\nConnection: close\r\n\r\n';
    for (const bytes of [valid, '\0\r\n\r\n', 'GET /%00 HTTP/9.9\r\n\r\n']) {
      const socket = connect({ port: interlock.haproxy.port, host: '127.0.0.1', localAddress: '127.0.77.3' });
      socket.end(bytes);
      socket.resume();
      await once(socket, 'close');
    }
    interlock.dns.names.set('tasks.gone.net', ['127.0.7.9']);
    await interlock.deploy(service('gone', { hosts: 'gone.test', port }));
    await until(
      'the route to no task answers 503',
      async () => (await interlock.status('gone.test')) === 503,
    );
    const output = await until('the proxy reports the server down', async () => {
      const text = await interlock.haproxy.output();
      return /gone\S* is DOWN/.test(text) && text;
    });
    expect(output).not.toContain('127.0.77.');
  });

  test('requires a password for statistics', async () => {
    const url = `http://127.0.0.1:${interlock.haproxy.operatorsPort}`;
    const login = (password: string) => ({
      authorization: `Basic ${Buffer.from(`${OPERATOR.name}:${password}`).toString('base64')}`,
    });
    for (const path of ['/', '/metrics', '/x', '/;csv']) {
      expect((await ask(url, path)).status).toBe(401);
      expect((await ask(url, path, 'GET', login('wrong'))).status).toBe(401);
    }
    const page = await ask(url, '/', 'GET', login(OPERATOR.password));
    expect(page.body.includes('Statistics Report')).toBe(true);
    expect(/version \d/i.test(page.body)).toBe(false);
    const metrics = await ask(url, '/metrics', 'GET', login(OPERATOR.password));
    expect(metrics.body.includes('haproxy_backend_http_responses_total{proxy="vote"')).toBe(true);
  });
});
