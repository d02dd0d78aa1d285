import { once } from 'node:events';
import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { haproxyIsMissing, service } from '#kit/haproxy.ts';
import { ask } from '#kit/raw-http.ts';
import { until } from '#kit/until.ts';
import { startInterlock, type TestInterlock, untilRouted } from './interlock.ts';

describe.skipIf(haproxyIsMissing)('routes', () => {
  let interlock: TestInterlock;
  let port: string;
  beforeAll(async () => {
    interlock = await startInterlock();
    port = String(interlock.taskPort);
  });
  afterAll(() => interlock.close());

  /** How many of `count` requests each task got. */
  async function share(host: string, count: number): Promise<Record<string, number>> {
    const shares: Record<string, number> = {};
    for (let i = 0; i < count; i++) {
      const { task } = await interlock.get(host);
      shares[task] = (shares[task] ?? 0) + 1;
    }
    return shares;
  }

  test('routes each host to its service, in any case, with a port, or with a trailing dot', async () => {
    await interlock.deploy(service('one', { hosts: 'one.test, uno.test', port }), ['127.0.4.1']);
    await interlock.deploy(service('two', { hosts: 'two.test', port }), ['127.0.4.2']);
    await untilRouted(interlock, 'one.test');
    expect((await untilRouted(interlock, 'two.test')).task).toBe('127.0.4.2');
    for (const host of ['one.test', 'ONE.test', 'one.test:8080', 'One.Test.', 'uno.test']) {
      expect((await interlock.get(host)).task).toBe('127.0.4.1');
    }
  });

  test('answers 404 for an unclaimed or missing host', async () => {
    await untilRouted(interlock, 'one.test');
    expect(await interlock.status('three.test')).toBe(404);
    expect(await interlock.status('xone.test')).toBe(404);
    expect(await interlock.status('one.test.evil.test')).toBe(404);
    expect(await interlock.status('')).toBe(404);
  });

  test('follows the tasks without a reload', async () => {
    const reloads = async () => (await interlock.haproxy.output()).split('Loading success').length;
    await interlock.deploy(service('churn', { hosts: 'churn.test', port }), ['127.0.4.11']);
    await untilRouted(interlock, 'churn.test');
    const before = await reloads();
    await interlock.task('127.0.4.12');
    interlock.dns.names.set('tasks.churn.net', ['127.0.4.12', '127.0.4.11']);
    await until(
      'the new task is used',
      async () => (await interlock.get('churn.test')).task === '127.0.4.12',
    );
    interlock.dns.names.set('tasks.churn.net', ['127.0.4.12']);
    await until('only the new task gets requests', async () => !(await share('churn.test', 4))['127.0.4.11']);
    expect(await reloads()).toBe(before);
  });

  test('answers 503 with Retry-After at once when there is no task', async () => {
    await interlock.deploy(service('none', { hosts: 'none.test', port }));
    const answer = await until('the host is known', async () => {
      const { status, headers, body } = await ask(interlock.url, '/', 'GET', { host: 'none.test' });
      return status === 503 && { headers, body };
    });
    expect(Number(answer.headers['retry-after'])).toBeGreaterThanOrEqual(1);
    expect(answer.headers['cache-control']).toBe('no-store');
    expect(JSON.parse(answer.body)).toMatchObject({ code: 'no_backend' });
  });

  test('shares a host between services in proportion to their tasks', async () => {
    await interlock.deploy(service('stable', { hosts: 'canary.test', port }), [
      '127.0.4.21',
      '127.0.4.22',
      '127.0.4.23',
    ]);
    await interlock.deploy(service('canary', { hosts: 'canary.test', port }), ['127.0.4.24']);
    await until('all four get requests', async () => Object.keys(await share('canary.test', 8)).length === 4);
    expect(await share('canary.test', 40)).toEqual({
      '127.0.4.21': 10,
      '127.0.4.22': 10,
      '127.0.4.23': 10,
      '127.0.4.24': 10,
    });
  });

  test('matches the longest context root of whole segments', async () => {
    await interlock.deploy(service('root', { hosts: 'paths.test', port }), ['127.0.4.31']);
    await interlock.deploy(service('api', { hosts: 'paths.test', port, context_root: '/api' }), [
      '127.0.4.32',
    ]);
    await interlock.deploy(
      service('v2', { hosts: 'paths.test', port, context_root: '/api/v2.0/', context_root_rewrite: 'true' }),
      ['127.0.4.33'],
    );
    await untilRouted(interlock, 'paths.test', '/api/v2.0');
    const taken = async (path: string): Promise<string[]> => {
      const { task, path: seen } = await untilRouted(interlock, 'paths.test', path);
      return [task, seen];
    };
    expect(await taken('/x')).toEqual(['127.0.4.31', '/x']);
    expect(await taken('/apix')).toEqual(['127.0.4.31', '/apix']);
    expect(await taken('/api')).toEqual(['127.0.4.32', '/api']);
    expect(await taken('/api/x?y=/api/v2.0')).toEqual(['127.0.4.32', '/api/x?y=/api/v2.0']);
    expect(await taken('/api/v2x0/z')).toEqual(['127.0.4.32', '/api/v2x0/z']);
    expect(await taken('/api/v2.0')).toEqual(['127.0.4.33', '/']);
    expect(await taken('/api/v2.0/a/b?c=d')).toEqual(['127.0.4.33', '/a/b?c=d']);
  });

  test('routes unclaimed hosts to the default backend, if there is one', async () => {
    await interlock.deploy(service('all', { default_backend: 'true', port }), ['127.0.4.41']);
    expect((await untilRouted(interlock, 'whatever.test')).task).toBe('127.0.4.41');
    expect((await interlock.get('one.test')).task).toBe('127.0.4.1');
    interlock.undeploy('all');
    await until('they get 404 again', async () => (await interlock.status('whatever.test')) === 404);
  });

  test('redirects hosts and paths, with 302', async () => {
    await interlock.deploy(
      service('new', {
        hosts: 'new.test',
        port,
        redirects: 'http://old.test,http://new.test; older.test/a,https://new.test/b?c=d',
      }),
      ['127.0.4.51'],
    );
    await untilRouted(interlock, 'new.test');
    const location = async (host: string, path: string) => {
      const { status, headers } = await ask(interlock.url, path, 'GET', { host });
      return [status, headers['location']];
    };
    expect(await location('old.test', '/')).toEqual([302, 'http://new.test/']);
    expect(await location('old.test', '/x?y=z')).toEqual([302, 'http://new.test/x?y=z']);
    expect(await location('older.test', '/a/1')).toEqual([302, 'https://new.test/b?c=d']);
    expect(await location('older.test', '/')).toEqual([404, undefined]);
  });

  test('keeps a session on its task by the application’s cookie, also when a task is added', async () => {
    const addresses = ['127.0.4.61', '127.0.4.62', '127.0.4.63', '127.0.4.64'];
    await interlock.deploy(
      service('sticky', { hosts: 'sticky.test', port, sticky_session_cookie: 'sid' }),
      addresses,
    );
    const ofSession = async (id: number) =>
      (await interlock.get('sticky.test', '/', { cookie: `a=b; sid=session-${id}; c=d` })).task;
    const place = async () => Promise.all(Array.from({ length: 40 }, (_, id) => ofSession(id)));
    await until('all tasks get requests', async () => new Set(await place()).size === 4);
    const before = await place();
    expect(await place()).toEqual(before);
    await interlock.task('127.0.4.65');
    interlock.dns.names.set('tasks.sticky.net', [...addresses, '127.0.4.65']);
    const after = await until('the new task has a share', async () => {
      const now = await place();
      return now.includes('127.0.4.65') && now;
    });
    const moved = after.filter((task, id) => task !== before[id]);
    expect(new Set(moved)).toEqual(new Set(['127.0.4.65']));
  });

  test('keeps a client on its task by its address', async () => {
    await interlock.deploy(service('hashed', { hosts: 'hashed.test', port, ip_hash: 'true' }), [
      '127.0.4.71',
      '127.0.4.72',
      '127.0.4.73',
    ]);
    await untilRouted(interlock, 'hashed.test');
    await until(
      'one task gets all requests',
      async () => Object.keys(await share('hashed.test', 10)).length === 1,
    );
    const from = async (localAddress: string) => {
      const answer = await fetchFrom(interlock.haproxy.port, 'hashed.test', localAddress);
      return JSON.parse(answer).task as string;
    };
    const clients = Array.from({ length: 30 }, (_, n) => `127.0.99.${n + 1}`);
    const places = await Promise.all(clients.map(from));
    expect(new Set(places).size).toBe(3);
    expect(await Promise.all(clients.map(from))).toEqual(places);
  });

  test('reaches a service by its virtual IP', async () => {
    await interlock.deploy(
      service('virtual', { hosts: 'virtual.test', port, backend_mode: 'vip' }, { hasVirtualIp: true }),
      ['127.0.4.81'],
    );
    expect((await untilRouted(interlock, 'virtual.test')).task).toBe('127.0.4.81');
  });

  test('routes to a task only while its health check passes, and again soon after', async () => {
    await interlock.deploy(
      service('checked', { hosts: 'checked.test', port, health_path: '/ready', health_port: port }),
      ['127.0.4.91'],
    );
    const sick = await interlock.task('127.0.4.92');
    sick.answer = (request, response) =>
      response.writeHead(request.url === '/ready' ? 503 : 200).end('{"task":"sick"}');
    interlock.dns.names.set('tasks.checked.net', ['127.0.4.91', '127.0.4.92']);
    await until('the check has run', () => sick.paths.filter((path) => path === '/ready').length >= 3);
    expect(await share('checked.test', 20)).toEqual({ '127.0.4.91': 20 });
    sick.answer = undefined;
    await until(
      'it is used again',
      async () => (await interlock.get('checked.test')).task === '127.0.4.92',
      3_000,
    );
  });

  test('routes only the services of its own cluster', async () => {
    await interlock.deploy(service('other', { hosts: 'other.test', port, service_cluster: 'west' }), [
      '127.0.4.95',
    ]);
    await interlock.deploy(service('own', { hosts: 'own.test', port }), ['127.0.4.96']);
    await untilRouted(interlock, 'own.test');
    expect(await interlock.status('other.test')).toBe(404);
  });
});

async function fetchFrom(port: number, host: string, localAddress: string): Promise<string> {
  const sent = request({ host: '127.0.0.1', port, localAddress, headers: { host }, agent: false });
  sent.end();
  const [answer] = await once(sent, 'response');
  return text(answer);
}
