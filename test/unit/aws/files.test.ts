import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { ROOT } from '#dev/root.ts';
import { makeStack, parseTemplate } from '#kit/cloudformation.ts';

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');
const template = parseTemplate(read('aws/turnout.yaml'));
const withRds = makeStack(template, { UseRds: 'true' });
const withDisk = makeStack(template);

describe('the units of systemd', () => {
  test.each(globSync('aws/units/*', { cwd: ROOT }))('%s starts an existing script', (path) => {
    const [, script] = read(path).match(/^ExecStart=\/opt\/turnout\/(\S+)/m) ?? [];
    if (path.endsWith('.service')) expect(globSync(script ?? '', { cwd: ROOT })).toEqual([script]);
    else expect(read(path.replace('.timer', '.service'))).toBeTruthy();
  });
});

describe('the files agree:', () => {
  test('deploy.sh and destroy.sh read outputs of the template', () => {
    const outputs = { ...withRds.outputs, ...withDisk.outputs };
    const names = ['aws/deploy.sh', 'aws/destroy.sh'].flatMap((path) =>
      [...read(path).matchAll(/output "?(?<name>[A-Z]\w+)|[A-Z_]+:(?<pair>[A-Z]\w+)/g)].map(
        ({ groups }) => groups?.['name'] ?? groups?.['pair'] ?? '',
      ),
    );
    expect(names.length).toBeGreaterThan(10);
    for (const name of names) expect(outputs, name).toHaveProperty(name);
  });

  test('the registry has a repository for every image, and release.sh checks for the one pushed last', () => {
    const images =
      read('stack/swarm/images.sh')
        .match(/^NAMES='(.*)'$/m)?.[1]
        ?.split(' ') ?? [];
    const places = withDisk.resources
      .filter(({ type }) => type === 'AWS::ECR::Repository')
      .map(({ properties }) => properties['RepositoryName']);
    expect(places.toSorted()).toEqual(images.map((name) => `turnout/turnout-${name}`).toSorted());
    expect(images.at(-1)).toBe('postgres');
    expect(read('aws/release.sh')).toContain('turnout-postgres');
  });

  test('nodes pull every image of the services they run', () => {
    const { services } = parse(read('stack/turnout.yml'), { merge: true });
    const fetched = Object.fromEntries(
      [...read('aws/node.sh').matchAll(/^ {4}(\w+)\) names='?([\w -]+?)'? ;;$/gm)].map(([, role, names]) => [
        role,
        names?.split(' ').toSorted(),
      ]),
    );
    const needed: Record<string, string[]> = {};
    for (const [name, service] of Object.entries<{ deploy: { placement: { constraints: string[] } } }>(
      services,
    )) {
      const where = service.deploy.placement.constraints.join(' ');
      const role = where.match(/node\.labels\.\S+ == (?:\$\{\w+:-)?(\w+)/)?.[1] ?? 'manager';
      needed[role] = [...(needed[role] ?? []), name].toSorted();
    }
    expect(fetched).toEqual(needed);
  });

  test('logs.yml lists all services, and rds.yml only existing ones', () => {
    const services = (path: string) => Object.keys(parse(read(path), { merge: true }).services).toSorted();
    const all = services('stack/turnout.yml');
    expect(services('aws/logs.yml')).toEqual(all);
    expect(all).toEqual(expect.arrayContaining(services('aws/rds.yml')));
  });

  test('logging never blocks a process', () => {
    for (const service of Object.values<object>(parse(read('aws/logs.yml')).services)) {
      expect(service).toMatchObject({ logging: { driver: 'awslogs', options: { mode: 'non-blocking' } } });
    }
  });

  test('settings.env sets only variables of stack/turnout.yml', () => {
    const names = [...read('aws/settings.env').matchAll(/^([A-Z_]+)=/gm)].map(([, name]) => name);
    expect(names.length).toBeGreaterThan(5);
    for (const name of names) expect(read('stack/turnout.yml')).toContain(`\${${name}:-`);
  });

  test('the scripts use the resource names of the template', () => {
    const properties = (id: string) => withDisk.resources.find((one) => one.id === id)?.properties;
    expect(properties('Frontends')).toMatchObject({ AutoScalingGroupName: 'turnout-frontend' });
    expect(read('aws/retire.sh')).toContain('"$STACK-frontend"');
    expect(read('aws/reconcile-nodes.sh')).toContain('"$STACK-$1"');
    expect(read('aws/retire.sh')).toContain(
      `--lifecycle-hook-name ${properties('Drain')?.['LifecycleHookName']}`,
    );
    expect(read('aws/reconcile-nodes.sh')).toContain(
      `--lifecycle-hook-name ${properties('Ready')?.['LifecycleHookName']}`,
    );
    // Auto Scaling waits for a hundred time-outs.
    const hours = (100 * Number(properties('Drain')?.['HeartbeatTimeout'])) / 3_600;
    expect(read('aws/HOWTO.md')).toContain(`for up to ${hours} hours`);
    const groups = ['Workers', 'Interlocks', 'Frontends', 'Stores'].map(
      (id) => properties(id)?.['AutoScalingGroupName'],
    );
    const refreshed = /for role in ([\w ]+); do refresh/.exec(read('aws/patch.sh'))?.[1]?.split(' ');
    expect(refreshed?.map((role) => `turnout-${role}`)).toEqual(groups);
    expect(properties('ProxyReady')).toMatchObject({
      AutoScalingGroupName: '<Interlocks>',
      LifecycleHookName: properties('Ready')?.['LifecycleHookName'],
    });
  });
});
