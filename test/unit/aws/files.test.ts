import { spawnSync } from 'node:child_process';
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

describe('the scripts of aws/, vagrant/ and test/kit/', () => {
  const scripts = globSync('{aws,vagrant,test/kit}/*.sh', { cwd: ROOT });

  test('are all looked at', () => {
    expect(scripts.length).toBeGreaterThanOrEqual(8);
  });

  test.each(scripts)('%s has no fault that shellcheck finds', (path) => {
    const { status, stdout, error } = spawnSync('shellcheck', ['-x', path], { cwd: ROOT, encoding: 'utf8' });
    if (error) throw new Error("shellcheck is missing; it is one of Debian's packages", { cause: error });
    expect(stdout).toBe('');
    expect(status).toBe(0);
  });

  test.each(globSync('aws/units/*', { cwd: ROOT }))('%s starts a script that is there', (path) => {
    const [, script] = read(path).match(/^ExecStart=\/opt\/turnout\/(\S+)/m) ?? [];
    if (path.endsWith('.service')) expect(globSync(script ?? '', { cwd: ROOT })).toEqual([script]);
    else expect(read(path.replace('.timer', '.service'))).toBeTruthy();
  });
});

describe('what the files have in common', () => {
  test('deploy.sh and destroy.sh read outputs that the template has', () => {
    const outputs = { ...withRds.outputs, ...withDisk.outputs };
    const names = ['aws/deploy.sh', 'aws/destroy.sh'].flatMap((path) =>
      [...read(path).matchAll(/output "?(?<name>[A-Z]\w+)|[A-Z_]+:(?<pair>[A-Z]\w+)/g)].map(
        ({ groups }) => groups?.['name'] ?? groups?.['pair'] ?? '',
      ),
    );
    expect(names.length).toBeGreaterThan(10);
    for (const name of names) expect(outputs, name).toHaveProperty(name);
  });

  test('the registry has a place for every image, and the last one pushed is the one that is looked for', () => {
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

  test('every image of a service is fetched by the nodes that run it', () => {
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
      const role = where.match(/node\.labels\.role == (?:\$\{\w+:-)?(\w+)/)?.[1] ?? 'manager';
      needed[role] = [...(needed[role] ?? []), name].toSorted();
    }
    expect(fetched).toEqual(needed);
  });

  test('logs.yml names all services, and rds.yml only those that there are', () => {
    const services = (path: string) => Object.keys(parse(read(path), { merge: true }).services).toSorted();
    const all = services('stack/turnout.yml');
    expect(services('aws/logs.yml')).toEqual(all);
    expect(all).toEqual(expect.arrayContaining(services('aws/rds.yml')));
  });

  test('no process waits for the logs', () => {
    for (const service of Object.values<object>(parse(read('aws/logs.yml')).services)) {
      expect(service).toMatchObject({ logging: { driver: 'awslogs', options: { mode: 'non-blocking' } } });
    }
  });

  test('settings.env sets only what stack/turnout.yml reads', () => {
    const names = [...read('aws/settings.env').matchAll(/^([A-Z_]+)=/gm)].map(([, name]) => name);
    expect(names.length).toBeGreaterThan(5);
    for (const name of names) expect(read('stack/turnout.yml')).toContain(`\${${name}:-`);
  });

  test('the scripts use the names that the template gives', () => {
    const properties = (id: string) => withDisk.resources.find((one) => one.id === id)?.properties;
    expect(properties('Frontends')).toMatchObject({ AutoScalingGroupName: 'turnout-frontend' });
    for (const path of ['aws/reconcile-nodes.sh', 'aws/retire.sh'])
      expect(read(path)).toContain('"$STACK-frontend"');
    expect(read('aws/retire.sh')).toContain(
      `--lifecycle-hook-name ${properties('Drain')?.['LifecycleHookName']}`,
    );
    expect(properties('StoreDiskAttachment')).toMatchObject({ Device: '/dev/sdf' });
  });
});
