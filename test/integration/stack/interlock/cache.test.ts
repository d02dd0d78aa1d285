import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { haproxyIsMissing, service } from '#kit/haproxy.ts';
import { ask } from '#kit/raw-http.ts';
import { startInterlock, type TestInterlock, type TestTask, untilRouted } from './interlock.ts';

const HOST = 'vote.test';
const PUBLIC = { 'Cache-Control': 'public, max-age=5', Vary: 'Accept-Encoding' };

describe.skipIf(haproxyIsMissing)('the cache of the proxy', () => {
  let interlock: TestInterlock;
  let task: TestTask;
  let headers: Record<string, string>;

  beforeAll(async () => {
    interlock = await startInterlock();
    const address = '127.0.94.1';
    task = await interlock.task(address);
    interlock.dns.names.set('tasks.vote.net', [address]);
    await interlock.deploy(service('vote', { hosts: HOST, port: String(interlock.taskPort) }), []);
    await untilRouted(interlock, HOST, '/ready');
  });
  afterAll(() => interlock?.close());
  beforeEach(() => {
    task.paths.length = 0;
    headers = PUBLIC;
    task.answer = (request, response) => {
      const encoding = request.headers['accept-encoding'];
      response.writeHead(200, { ...headers, ...(encoding && { 'Content-Encoding': String(encoding) }) });
      response.end(`${encoding ?? 'plain'}`);
    };
  });

  const get = (path: string, more: Record<string, string> = {}, method = 'GET') =>
    ask(interlock.url, path, method, { host: HOST, ...more });

  test('serves a public answer again without asking the task, for each encoding', async () => {
    for (const encoding of ['br', 'gzip', 'br', 'gzip', 'br']) {
      expect((await get('/page', { 'accept-encoding': encoding })).body).toBe(encoding);
    }
    expect(task.paths).toEqual(['/page', '/page']);
  });

  test.each<[string, Record<string, string>]>([
    ['no-store', { 'Cache-Control': 'no-store' }],
    ['private', { 'Cache-Control': 'private, max-age=5' }],
    ['without a word about caches', {}],
    ['with a cookie', { ...PUBLIC, 'Set-Cookie': 'turnout_voter=x' }],
    ['that varies by more', { ...PUBLIC, Vary: 'Accept-Encoding, Cookie' }],
  ])('keeps no answer that is %s', async (name, other) => {
    headers = other;
    const path = `/${encodeURIComponent(name)}`;
    await get(path);
    await get(path);
    expect(task.paths).toEqual([path, path]);
  });

  test('never answers a POST', async () => {
    await get('/votes');
    await get('/votes', {}, 'POST');
    await get('/votes', {}, 'POST');
    expect(task.paths).toEqual(['/votes', '/votes', '/votes']);
  });
});
