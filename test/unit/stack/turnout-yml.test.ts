import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const stack = read('stack/turnout.yml');

const servicesOf = (): string[] =>
  stack
    .split(/^services:$/m)[1]
    ?.split(/^networks:$/m)[0]
    ?.split(/^ {2}(?=[a-z-]+:$)/m)
    .slice(1) ?? [];

test('the images of the stack are those of this version, and all are built', () => {
  const { version } = JSON.parse(read('package.json'));
  const images = [
    ...stack.matchAll(/image: \$\{TURNOUT_IMAGES:-turnout-\}([\w-]+):\$\{TURNOUT_VERSION:-([^}]+)\}/g),
  ];
  const built = /^NAMES='([^']+)'/m.exec(read('stack/swarm/images.sh'))?.[1]?.split(' ');
  expect(images.map(([, name]) => name).toSorted()).toEqual(built?.toSorted());
  expect(stack.match(/^ {4}image:/gm)?.length).toBe(images.length);
  for (const [, name, tag] of images) expect(tag, name).toBe(version);
});

test('Swarm waits longer than our processes do before they give up stopping in order', () => {
  const giveUp = /SHUTDOWN_MS_MAX = ([\d_]+)/.exec(read('stack/runtime/shutdown.ts'))?.[1]?.replace('_', '');
  const common = /^x-process: &process\n {2}stop_grace_period: (\d+)s/m.exec(stack)?.[1];
  expect(Number(common) * 1_000).toBeGreaterThan(Number(giveUp));
  for (const name of ['vote', 'results', 'dashboard', 'worker', 'interlock']) {
    const service = servicesOf().find((text) => text.startsWith(`${name}:`));
    expect(service, name).toContain('<<: *process');
    expect(service, name).not.toContain('stop_grace_period');
  }
});

test('every service resolves to its tasks, and only the proxy publishes ports', () => {
  const services = servicesOf();
  expect(services.length).toBe(9);
  for (const service of services) {
    const name = service.split(':')[0];
    expect(service, name).toContain('endpoint_mode: dnsrr');
    expect(service, name).toContain('restart_policy');
    expect(service, name).toContain('limits:');
    expect(service.includes('ports:'), name).toBe(name === 'proxy');
    expect(/process|read_only: true\n {4}cap_drop: \[ALL\]/.test(service), name).toBe(true);
  }
});
