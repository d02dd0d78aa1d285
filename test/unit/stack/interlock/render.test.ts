import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import type { Service, Swarm } from '#interlock/docker.ts';
import { linksOf, renderRoutes } from '#interlock/haproxy.ts';
import { composeModel, type Edge, type Model } from '#interlock/model.ts';
import { ProxyNotFoundError, readRoutes } from '#interlock/route.ts';
import { haproxyIsMissing, service } from '#kit/haproxy.ts';

const BASE = join(ROOT, 'stack/interlock/proxy.cfg');

const PROXY = service(
  'proxy',
  { proxy: 'true' },
  {
    networks: ['n1', 'n2'],
    secrets: [
      { id: 's1', name: 'stack_cert', file: 'cert' },
      { id: 's2', name: 'stack_key', file: '/elsewhere/key.pem' },
      { id: 's3', name: 'both', file: 'both.pem' },
    ],
  },
);
const NETWORKS = new Map([
  ['n1', 'stack_public'],
  ['n2', 'stack_backoffice'],
  ['n3', 'stack_store'],
]);

const swarmOf = (...services: readonly Service[]): Swarm => ({
  services: [PROXY, ...services],
  networks: NETWORKS,
});

const NO_LIMITS: Edge = {
  postRateMax: 0,
  postRateNetworks: [],
  trustedProxies: [],
  proxyProtocolFrom: [],
  proxies: 1,
  version: [2, 6],
};

/** What becomes of the services: the model, and the faults of all kinds. */
function compose(services: readonly Service[], edge: Partial<Edge> = {}) {
  const { routes, faults } = readRoutes(swarmOf(...services), '');
  const composition = composeModel(routes, { ...NO_LIMITS, ...edge });
  return { model: composition.model, faults: Object.fromEntries([...faults, ...composition.faults]) };
}

const VOTE = service('stack_vote', {
  hosts: 'vote.test,www.vote.test',
  port: '8080',
  health_port: '9080',
  health_path: '/readyz',
  task_connections_max: '512',
});
const web = (name: string, more: Readonly<Record<string, string>> = {}, at: Partial<Service> = {}): Service =>
  service(name, { hosts: `${name}.test`, port: '80', ...more }, at);

const SCENARIOS: Readonly<Record<string, readonly Service[]>> = {
  nothing: [],
  turnout: [
    VOTE,
    service('stack_issuer', { hosts: 'vote.test', context_root: '/tokens', port: '8085' }),
    service(
      'stack_results',
      {
        hosts: 'results.test',
        port: '8081',
        network: 'backoffice',
        health_port: '9081',
        health_path: '/readyz',
      },
      { stack: 'stack', networks: ['n2', 'n3'] },
    ),
    service('stack_dashboard', { hosts: 'dashboard.test', port: '8082' }, { networks: ['n3', 'n2'] }),
  ],
  canary: [
    VOTE,
    service('canary', { hosts: 'www.vote.test', port: '8080', health_path: '/readyz' }, { tasksWanted: 100 }),
  ],
  paths: [
    web('root', { hosts: 'site.test', default_backend: 'true' }),
    web('api', { hosts: 'site.test', context_root: '/api' }),
    web('api2', { hosts: 'site.test', context_root: '/api/v2.0', context_root_rewrite: 'true' }),
  ],
  hashing: [web('sticky', { sticky_session_cookie: 'sid' }), web('address', { ip_hash: 'true' })],
  tls: [
    web('one', { ssl_cert: 'cert', ssl_key: 'key', ssl_only: 'true' }, { stack: 'stack' }),
    web('two', { ssl_cert: 'both', redirects: 'old.test,https://two.test;http://two.test,https://two.test' }),
    web('inner', { ssl_backend: 'true', ssl_backend_tls_verify: 'required' }),
    web('trusting', { ssl_backend: 'true', health_path: '/ok' }),
  ],
  'default-certificate': [service('all', { default_backend: 'true', port: '80', ssl_cert: 'both' })],
  passthrough: [
    web('through', { ssl_passthrough: 'true', ssl_only: 'true', port: '8443', ip_hash: 'true' }),
    web('ends', { ssl_cert: 'both' }),
  ],
  'passthrough-alone': [web('through', { ssl_passthrough: 'true', port: '8443' })],
  vip: [web('virtual', { backend_mode: 'vip' }, { hasVirtualIp: true })],
  edge: [VOTE],
  'edge-passthrough': [
    web('through', { ssl_passthrough: 'true', port: '8443' }),
    web('ends', { ssl_cert: 'both', ssl_only: 'true' }),
  ],
};

/** What holds for all sites of a scenario; absent: the defaults of the settings. */
const EDGES: Readonly<Record<string, Partial<Edge>>> = {
  edge: {
    postRateMax: 600,
    postRateNetworks: [
      { network: '100.64.0.0/10', max: 6_001 },
      { network: '2001:db8::/32', max: 0 },
    ],
    trustedProxies: Array.from({ length: 41 }, (_, number) => `192.0.2.${number}`),
    proxyProtocolFrom: ['10.0.0.0/16'],
    proxies: 4,
  },
  'edge-passthrough': { trustedProxies: ['2001:db8::/32'], proxyProtocolFrom: ['10.0.0.0/16', 'fd00::/8'] },
};
const edgeOf = (scenario: string): Partial<Edge> => EDGES[scenario] ?? { postRateMax: 600 };

describe('the routes', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'turnout-test-'));
    mkdirSync(join(folder, 'tls'));
    const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    spawnSync('openssl', [
      ...args,
      '-keyout',
      join(folder, 'key'),
      '-out',
      join(folder, 'cert'),
      '-subj',
      '/CN=x',
    ]);
    writeFileSync(join(folder, 'users.cfg'), 'userlist operators\n  user a insecure-password b\n');
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  /** What a real HAProxy says of the routes, when every certificate is a good one. */
  function check(model: Model): string {
    for (const certificate of model.certificates) {
      const { crt } = linksOf(certificate);
      for (const [name, target] of [
        [crt, 'cert'],
        [`${crt}.key`, 'key'],
      ] as const) {
        rmSync(join(folder, 'tls', name), { force: true });
        symlinkSync(join(folder, target), join(folder, 'tls', name));
      }
    }
    const routes = join(folder, 'routes.cfg');
    writeFileSync(routes, renderRoutes(model));
    writeFileSync(join(folder, 'servers.state'), '1\n');
    const { stderr, stdout } = spawnSync(
      'haproxy',
      ['-c', '-f', BASE, '-f', join(folder, 'users.cfg'), '-f', routes],
      {
        encoding: 'utf8',
        env: { PATH: process.env['PATH'], PROXY_DIR: folder, PROXY_BACKEND_CA: join(folder, 'cert') },
      },
    );
    return `${stdout}${stderr}`.trim();
  }

  describe.each(Object.entries(SCENARIOS))('of the scenario %s', (name, services) => {
    test('match the golden file', async () => {
      const { model, faults } = compose(services, edgeOf(name));
      expect(faults).toEqual({});
      await expect(renderRoutes(model)).toMatchFileSnapshot(`golden/${name}.cfg`);
    });

    test.skipIf(haproxyIsMissing)('are taken by HAProxy without a warning', () => {
      expect(check(compose(services, edgeOf(name)).model)).toBe('Configuration file is valid');
    });
  });

  // No HAProxy 3 was available: nothing has read these files, and a person must compare them with its manual.
  test.each([
    ['hashing', [3, 0]],
    ['hashing', [3, 2]],
    ['turnout', [3, 2]],
    ['tls', [3, 2]],
  ] as const)(
    'of the scenario %s match the golden file for HAProxy %j, which was not run',
    async (name, version) => {
      const { model } = compose(SCENARIOS[name] ?? [], { ...edgeOf(name), version });
      await expect(renderRoutes(model)).toMatchFileSnapshot(
        `golden/not-run/${name}-${version.join('.')}.cfg`,
      );
    },
  );

  test('use nothing of HAProxy 3 for older versions, and nothing of 3.1 for 3.0', () => {
    const text = (version: Edge['version']) =>
      renderRoutes(compose(SCENARIOS['hashing'] ?? [], { version }).model);
    expect(text([2, 8])).toBe(text([2, 6]));
    expect(text([3, 0])).not.toContain('init-state');
    expect(text([4, 0])).toBe(text([3, 1]));
  });

  test.skipIf(haproxyIsMissing)('of a service with as many hosts as it may have are taken by HAProxy', () => {
    const hosts = (at: string) => Array.from({ length: 100 }, (_, number) => `h${number}.${at}.test`).join();
    const many = [
      web('plain', { hosts: hosts('plain'), context_root: '/a' }),
      web('through', { hosts: hosts('through'), ssl_passthrough: 'true', port: '443' }),
    ];
    const { model, faults } = compose(many);
    expect(faults).toEqual({});
    expect(check(model)).toBe('Configuration file is valid');
    for (const host of ['h0.plain.test', 'h99.plain.test', 'h99.through.test']) {
      expect(renderRoutes(model)).toContain(` ${host}`);
    }
  });

  test('do not depend on the order of the services', () => {
    const all = Object.values(SCENARIOS).flat();
    const unique = [...new Map(all.map((one) => [one.name, one])).values()];
    const text = (services: readonly Service[]) => renderRoutes(compose(services).model);
    const expected = text(unique);
    fc.assert(
      fc.property(fc.shuffledSubarray(unique, { minLength: unique.length }), (shuffled) => {
        expect(text(shuffled)).toBe(expected);
      }),
    );
  });

  test('of a service do not change, whatever a newer service claims', () => {
    // Mostly right, so that what is wanted together is often possible, and sometimes wrong.
    const either = (right: readonly string[], wrong: readonly string[]) =>
      fc.oneof(
        { weight: 15, arbitrary: fc.constantFrom(...right) },
        { weight: 1, arbitrary: fc.constantFrom(...wrong) },
      );
    const bool = either(['true', 'false', 'false'], ['maybe']);
    const labels = fc.record(
      {
        hosts: either(['vote.test', 'www.vote.test', 'one.test', 'through.test', 'other.test'], ['x y', '']),
        port: either(['80', '8080'], ['0', 'x']),
        context_root: either(['/', '/', '/a'], ['/../b', '/a b']),
        context_root_rewrite: bool,
        default_backend: bool,
        network: either(['stack_public'], ['stack_store', 'x\n']),
        ssl_cert: either(['both'], ['missing']),
        ssl_only: bool,
        ssl_passthrough: bool,
        ip_hash: bool,
        redirects: either(['vote.test,http://evil.test', 'one.test/a,http://evil.test'], ['x']),
        health_path: either(['/readyz', '/other'], ['x']),
      },
      { requiredKeys: ['hosts', 'port'] },
    );
    const settled = [VOTE, ...(SCENARIOS['tls'] ?? []), ...(SCENARIOS['passthrough-alone'] ?? [])];
    const before = sitesByHost(compose(settled).model);
    let routed = 0;
    fc.assert(
      fc.property(labels, (wild) => {
        const newer = service('newer', wild as Record<string, string>, { createdAt: '2026-12-01T00:00:00Z' });
        const { model, faults } = compose([newer, ...settled]);
        expect(Object.keys(faults).filter((name) => name !== 'newer')).toEqual([]);
        const after = sitesByHost(model);
        for (const [place, { settings, members }] of before) {
          expect(after.get(place)?.settings).toEqual(settings);
          expect(after.get(place)?.members.filter(({ service: name }) => name !== 'newer')).toEqual(members);
        }
        if (faults['newer'] === undefined) routed += 1;
        else expect(after).toEqual(before);
      }),
      { numRuns: 2_000 },
    );
    // About one in sixteen is routed. Else this would have looked at nothing but wrong labels.
    expect(routed).toBeGreaterThan(20);
  });

  test('give a contested path to the older service', () => {
    const old = web('old', { hosts: 'x.test' });
    const later = { createdAt: '2026-12-01T00:00:00Z' };
    const faultOf = (more: Record<string, string>) =>
      compose([web('new', { hosts: 'x.test', ...more }, later), old]).faults['new'];
    expect(faultOf({})).toBeUndefined();
    expect(faultOf({ ip_hash: 'true' })).toBe('x.test/ already belongs to old, with other settings');
    expect(faultOf({ ssl_passthrough: 'true' })).toBe('x.test belongs to old, with another ssl_passthrough');
    expect(faultOf({ hosts: 'y.test', redirects: 'x.test,http://y.test' })).toBe(
      'x.test/ already belongs to old, and is redirected',
    );
    expect(faultOf({ hosts: 'y.test', redirects: 'y.test,http://x.test' })).toBe(
      'y.test/ already belongs to new, and is redirected',
    );
    expect(faultOf({ context_root: '/a', ip_hash: 'true' })).toBeUndefined();
  });

  test('use only networks and secrets of the proxy', () => {
    const faultOf = (labels: Record<string, string>, more: Partial<Service> = {}) =>
      compose([web('x', labels, more)]).faults['x'];
    expect(faultOf({}, { networks: ['n3'] })).toBe('it shares no network with the proxy');
    expect(faultOf({ network: 'stack_store' }, { networks: ['n1', 'n3'] })).toBe(
      'network must name one that the service and the proxy share',
    );
    expect(faultOf({ network: 'public' })).toMatch(/^network must name one/);
    expect(faultOf({ network: 'public' }, { stack: 'stack' })).toBeUndefined();
    expect(faultOf({ ssl_cert: 'absent' })).toBe(
      'there is no certificate absent, and the proxy has no such secret',
    );
    expect(faultOf({ ssl_cert: 'both.pem' })).toBeUndefined();
    expect(faultOf({ backend_mode: 'vip' })).toBe('backend_mode vip needs a service with endpoint_mode vip');
    const { model } = compose([web('x', { ssl_cert: 'cert', ssl_key: 'key' }, { stack: 'stack' })]);
    expect(model.certificates).toEqual([{ cert: '/run/secrets/cert', key: '/elsewhere/key.pem' }]);
  });

  test('enforce each proxy’s share of the limits, rounded up', () => {
    const { routes } = readRoutes(swarmOf(VOTE), '');
    const shares = (proxies: number): unknown => {
      const text = renderRoutes(composeModel(routes, { ...NO_LIMITS, postRateMax: 600, proxies }).model);
      return [/ ge (\d+)/, / maxconn (\d+)/].map((form) => Number(form.exec(text)?.[1]));
    };
    expect([1, 2, 20, 1_000].map(shares)).toEqual([
      [600, 512],
      [300, 256],
      [30, 26],
      [1, 1],
    ]);
    const proxies = (tasksWanted: number): number =>
      readRoutes({ services: [{ ...PROXY, tasksWanted }], networks: NETWORKS }, '').proxies;
    expect([0, 1, 20].map(proxies)).toEqual([1, 1, 20]);
  });

  test('have slots for the wanted tasks, in powers of two', () => {
    const slots = (tasksWanted: number) =>
      compose([web('x', {}, { tasksWanted })]).model.sites[0]?.servers[0]?.slots;
    expect([0, 1, 42, 43, 100, 1000].map(slots)).toEqual([64, 64, 64, 128, 256, 2048]);
  });

  test('are those of the own cluster, which must have exactly one proxy', () => {
    const west = { 'com.docker.lb.service_cluster': 'west' };
    const own = web('own');
    const theirs = { ...web('theirs'), labels: { ...web('theirs').labels, ...west } };
    const theirProxy = { ...PROXY, id: 'p2', name: 'p2', labels: { ...PROXY.labels, ...west } };
    const swarm = swarmOf(own, theirs, theirProxy);
    const names = (cluster: string) => readRoutes(swarm, cluster).routes.map(({ service: name }) => name);
    expect(names('')).toEqual(['own']);
    expect(names('west')).toEqual(['theirs']);
    expect(() => readRoutes(swarm, 'east')).toThrow(ProxyNotFoundError);
    expect(() => readRoutes(swarmOf({ ...PROXY, id: 'p3', name: 'p3' }), '')).toThrow(ProxyNotFoundError);
  });
});

/** What answers at each place: host and path. */
function sitesByHost({ sites }: Model) {
  return new Map(
    sites.flatMap(({ hosts, root, settings, servers, isPassthrough }) =>
      hosts
        .map((host) => [`${host}${root}`, { settings, isPassthrough, members: servers }] as const)
        .filter(([, { members }]) => members.some(({ service: name }) => name !== 'newer')),
    ),
  );
}
