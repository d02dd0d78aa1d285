import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { ROOT } from '#dev/root.ts';
import { SHUTDOWN_MS_MAX } from '#runtime/shutdown.ts';

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const stack = read('stack/turnout.yml');
/** With `merge`, `<<: *process` is resolved. */
const { services } = parse(stack, { merge: true }) as { services: Record<string, Service> };

interface Service {
  readonly image: string;
  readonly stop_grace_period?: string;
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
  readonly ports?: unknown;
  readonly environment?: Readonly<Record<string, string>>;
  readonly deploy: {
    readonly labels?: Readonly<Record<string, string>>;
    readonly placement: { readonly constraints: readonly string[] };
    readonly endpoint_mode: string;
    readonly restart_policy: unknown;
    readonly resources: { readonly limits: unknown };
  };
}

test('uses images of this version, and images.sh builds each', () => {
  const { version } = JSON.parse(read('package.json'));
  const images = Object.values(services).map(({ image }) => image);
  const names = images.map((image) => {
    const [, name, tag] =
      /^\$\{TURNOUT_IMAGES:-turnout-\}([\w-]+):\$\{TURNOUT_VERSION:-([^}]+)\}$/.exec(image) ?? [];
    expect(tag, image).toBe(version);
    return name;
  });
  const built = /^NAMES='([^']+)'/m.exec(read('stack/swarm/images.sh'))?.[1]?.split(' ');
  expect(names.toSorted()).toEqual(built?.toSorted());
});

test('a stack routes its own service cluster only, on nodes with its own label', () => {
  const routed = Object.entries(services).filter(([, { deploy }]) => deploy.labels !== undefined);
  expect(routed.map(([name]) => name)).toEqual(
    expect.arrayContaining(['proxy', 'vote', 'results', 'dashboard']),
  );
  for (const [name, { deploy }] of routed) {
    expect(deploy.labels?.['com.docker.lb.service_cluster'], name).toMatch(/^\$\{SERVICE_CLUSTER:-\}$/);
  }
  expect(services['interlock']?.environment?.['SERVICE_CLUSTER']).toMatch(/^\$\{SERVICE_CLUSTER:-\}$/);
  for (const [name, { deploy }] of Object.entries(services)) {
    const [first] = deploy.placement.constraints;
    if (name === 'docker-api') expect(first).toBe('node.role == manager');
    else expect(first, name).toMatch(/^node\.labels\.\$\{TURNOUT_ROLE_LABEL:-role\} == /);
  }
});

test('Swarm waits longer for a graceful stop than a process takes', () => {
  for (const name of ['vote', 'issuer', 'results', 'dashboard', 'worker', 'interlock']) {
    const seconds = /^(\d+)s$/.exec(services[name]?.stop_grace_period ?? '')?.[1];
    expect(Number(seconds) * 1_000, name).toBeGreaterThan(SHUTDOWN_MS_MAX);
  }
});

test('every service resolves to its tasks, is restarted, limited and locked down; only the proxy publishes ports', () => {
  expect(Object.keys(services)).toHaveLength(10);
  for (const [name, { deploy, ports, read_only, cap_drop }] of Object.entries(services)) {
    expect(deploy.endpoint_mode, name).toBe('dnsrr');
    expect(deploy.restart_policy, name).toBeDefined();
    expect(deploy.resources.limits, name).toBeDefined();
    expect([read_only, cap_drop], name).toEqual([true, ['ALL']]);
    expect(ports !== undefined, name).toBe(name === 'proxy');
  }
});

test('the MTU of the nodes holds for every network', () => {
  const { networks } = parse(stack, { merge: true }) as { networks: Record<string, unknown> };
  expect(Object.keys(networks)).toHaveLength(5);
  for (const [name, network] of Object.entries(networks)) {
    const option = { 'com.docker.network.driver.mtu': expect.stringMatching(/^\$\{NODE_MTU:-1500\}$/) };
    expect(network, name).toMatchObject({ driver: 'overlay', driver_opts: option });
  }
});
