import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { DockerApi } from '#interlock/docker.ts';
import { haproxyIsMissing, service, startDocker, type TestDocker } from '#kit/haproxy.ts';
import { freePort, scratchFolder, startProgram, type TestProcess } from '#kit/process.ts';
import { ask, sendBytes } from '#kit/raw-http.ts';
import { until } from '#kit/until.ts';

const CONFIG = join(ROOT, 'stack/interlock/docker-api.cfg');

// The engine is a stand-in, because what matters here is what never reaches it.
describe.skipIf(haproxyIsMissing)('docker-api', () => {
  let folder: Awaited<ReturnType<typeof scratchFolder>>;
  let engine: TestDocker;
  let filter: TestProcess;
  let port: number;
  let url: string;
  beforeAll(async () => {
    folder = await scratchFolder();
    const socket = join(folder.path, 'docker.sock');
    engine = await startDocker(socket);
    port = await freePort();
    url = `http://127.0.0.1:${port}`;
    filter = startProgram('haproxy', ['-db', '-f', CONFIG], {
      log: join(folder.path, 'docker-api.log'),
      env: { DOCKER_SOCKET: socket, DOCKER_API: `127.0.0.1:${port}` },
    });
    await until('it responds', async () => (await ask(url, '/services')).status === 200);
  });
  afterAll(async () => {
    await filter.end();
    await engine.close();
    await folder.remove();
  });

  const reached = async (path: string, method = 'GET', headers = {}, body?: string) => {
    engine.requests.length = 0;
    const { status } = await ask(url, path, method, headers, body);
    return { status, requests: [...engine.requests] };
  };

  test('passes reads of services, networks and events', async () => {
    engine.networks.set('n1', 'net');
    engine.services.set('vote', service('vote', { hosts: 'vote.test' }));
    const api = new DockerApi(url);
    const swarm = await api.read();
    expect(swarm.services).toEqual([service('vote', { hosts: 'vote.test' })]);
    expect(swarm.networks).toEqual(new Map([['n1', 'net']]));
    const stop = new AbortController();
    let changes = 0;
    const watching = api.watch(() => {
      changes += 1;
    }, stop.signal);
    await until('it listens', () => changes === 1);
    engine.announce();
    await until('an event', () => changes === 2);
    stop.abort();
    await expect(watching).rejects.toThrow();
  });

  test('replaces the query of the client', async () => {
    expect(await reached('/services?filters=x&status=false')).toEqual({
      status: 200,
      requests: ['GET /services?status=true'],
    });
    expect((await reached('/v1.41/networks?x')).requests).toEqual([
      'GET /v1.41/networks?filters=%7B%22scope%22%3A%5B%22swarm%22%5D%7D',
    ]);
    expect((await reached('/_ping')).requests).toEqual(['GET /_ping']);
    expect((await reached('/v1.44/version')).requests).toEqual(['GET /v1.44/version']);
    // The other way to write an address, with a host in it.
    expect((await reached(`${url}/services?x`)).requests).toEqual(['GET /services?status=true']);
  });

  test.each([
    '/',
    '/containers/json',
    '/secrets',
    '/v1.41/secrets',
    '/configs',
    '/tasks',
    '/nodes',
    '/swarm',
    '/swarm/unlockkey',
    '/info',
    '/images/json',
    '/services/create',
    '/services/abc',
    '/services/',
    '/servicesx',
    '//services',
    '/./services',
    '/x/../services',
    '/services/../secrets',
    '/services/..%2fsecrets',
    '/services%2f..%2fsecrets',
    '/%73ervices',
    '/services%00',
    '/services;x',
    '/v1.41//services',
    '/v1/services',
    '/v1.4/services',
    '/v1.411/services',
    '/vx/services',
    '/Services',
    '/services%0d%0aX:',
    '/grpc',
    '/session',
  ])('rejects %s', async (path) => {
    expect(await reached(path)).toEqual({ status: 403, requests: [] });
  });

  test.each(['POST', 'PUT', 'DELETE', 'HEAD', 'OPTIONS', 'PATCH'])('rejects %s', async (method) => {
    expect(await reached('/services', method)).toEqual({ status: 403, requests: [] });
  });

  test('rejects bodies and upgrades', async () => {
    expect((await reached('/services', 'GET', { 'content-length': '2' }, 'hi')).status).toBe(403);
    expect((await reached('/services', 'GET', { 'transfer-encoding': 'chunked' }, 'hi')).status).toBe(403);
    expect((await reached('/events', 'GET', { connection: 'upgrade', upgrade: 'tcp' })).status).toBe(403);
    expect(engine.requests).toEqual([]);
  });

  test('passes no second request behind the first', async () => {
    engine.requests.length = 0;
    const smuggled = 'GET /secrets HTTP/1.1\r\nHost: x\r\n\r\n';
    const first = `GET /services HTTP/1.1\r\nHost: x\r\nContent-Length: ${smuggled.length}\r\n\r\n`;
    expect(await sendBytes(port, first + smuggled)).toMatch(/^HTTP\/1.1 403/);
    const both = await sendBytes(port, `GET /services HTTP/1.1\r\nHost: x\r\n\r\n${smuggled}`, (answer) =>
      answer.includes(' 403 '),
    );
    expect(both).toMatch(/^HTTP\/1.1 200/);
    expect(engine.requests).toEqual(['GET /services?status=true']);
  });
});
