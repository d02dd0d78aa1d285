import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { ROOT } from '#dev/root.ts';

/** The memory of the virtual machines against the limits of the services that run on them. */
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

/** What Debian and the Docker engine take, in MiB. */
const SYSTEM_MIB = 200;
const MIB_PER_UNIT: Readonly<Record<string, number>> = { m: 1, mb: 1, g: 1024, gb: 1024 };
const settings = Object.fromEntries(
  [...read('vagrant/settings.env').matchAll(/^([A-Z_]+)=(.*)$/gm)].map(([, name, value]) => [name, value]),
) as Readonly<Record<string, string>>;

interface Service {
  readonly deploy: {
    readonly replicas?: string | number;
    readonly placement: { readonly constraints: readonly string[] };
    readonly resources: { readonly limits: { readonly memory: string } };
  };
}
const { services } = parse(read('stack/turnout.yml'), { merge: true }) as {
  services: Readonly<Record<string, Service>>;
};

function toMib(text: string): number {
  const [, number, unit = ''] = /^(\d+)([a-z]+)$/.exec(text.toLowerCase()) ?? [];
  const factor = MIB_PER_UNIT[unit];
  if (!number || !factor) throw new Error(`${text} is not a size`);
  return Number(number) * factor;
}

/** Replaces variables of the stack file by the settings, or by their defaults. */
const resolve = (text: string): string =>
  text.replaceAll(/\$\{(\w+):-([^}]*)\}/g, (_, name: string, value: string) => settings[name] ?? value);

/** The sum of the memory limits of all services that run on machines of a role, in MiB. */
const limitsOf = (role: string): number =>
  Object.values(services)
    .filter(({ deploy }) => resolve(String(deploy.replicas ?? 1)) !== '0')
    .filter(({ deploy }) => deploy.placement.constraints.some((one) => resolve(one).endsWith(` == ${role}`)))
    .map(({ deploy }) => toMib(resolve(deploy.resources.limits.memory)))
    .reduce((sum, size) => sum + size, 0);

/** The memory of a machine in nodes.rb, in MiB. */
function memoryOf(role: string): number {
  const line = read('vagrant/nodes.rb')
    .split('\n')
    .find((text) => text.includes(`, '${role}', subnet`));
  return Number(/, (\d+), \d\)/.exec(line ?? '')?.[1]);
}

describe('vagrant/settings.env', () => {
  test('sets only variables of stack/turnout.yml', () => {
    expect(Object.keys(settings).length).toBeGreaterThan(5);
    for (const name of Object.keys(settings)) expect(read('stack/turnout.yml')).toContain(`\${${name}:-`);
  });

  test.each(['frontend', 'worker', 'store', 'interlock'])(
    'limits the services on a machine with the role %s to its memory',
    (role) => {
      expect(limitsOf(role)).toBeGreaterThan(0);
      expect(limitsOf(role) + SYSTEM_MIB).toBeLessThanOrEqual(memoryOf(role));
    },
  );

  test('leaves Redis twice the memory of its data', () => {
    expect(2 * toMib(settings['REDIS_MAXMEMORY'] ?? '')).toBeLessThanOrEqual(
      toMib(settings['REDIS_MEMORY'] ?? ''),
    );
  });

  test('is in the archive for the machines', () => {
    expect(read('vagrant/payload.rb')).toContain('vagrant/settings.env');
  });
});
