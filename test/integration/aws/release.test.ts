import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { type StandInInstance, standInInstance } from '#kit/stand-ins.ts';

/** Scripts that the first manager runs, with stand-ins for AWS, Docker and the scripts of stack/swarm/. */
const CREDENTIALS = 'operator=pass-of-the-operator\nworker=pass-of-the-worker\n';
const REGISTRY = '123456789012.dkr.ecr.us-east-1.amazonaws.com/turnout';
const READY = { State: 'ready', Addr: '10.42.8.10' };

let instance: StandInInstance;

beforeEach(async () => {
  instance = await standInInstance();
  await instance.become('manager', 'i-0a1', '10.42.8.10');
  const node = (name: string, role: string, more = {}) => ({
    ID: name,
    Status: READY,
    Spec: { Role: 'worker', Labels: { role } },
    Description: { Hostname: name, Engine: { Labels: {} } },
    ...more,
  });
  await instance.standIns.write('docker.json', {
    isActive: true,
    isManager: true,
    self: 'manager-0a1',
    nodes: [node('manager-0a1', '', { ManagerStatus: { Leader: true } }), node('interlock-0c1', 'interlock')],
  });
});

afterEach(() => instance.remove());

describe('release.sh', () => {
  const STACK_ENV = [
    `TURNOUT_REGISTRY=${REGISTRY}`,
    'LOG_GROUP=/turnout/turnout',
    'VOTE_HOST=vote.example.com',
    'RESULTS_HOST=results.example.com',
    'DASHBOARD_HOST=dashboard.example.com',
    'WORKERS=6',
  ];

  beforeEach(async () => {
    await mkdir(join(instance.project, 'dist'));
    await mkdir(join(instance.project, 'db'));
    await writeFile(join(instance.project, 'dist/vote.mjs'), 'vote');
    for (const file of ['.dockerignore', 'package.json']) await writeFile(join(instance.project, file), '');
    await writeFile(join(instance.project, 'db/roles.sql'), 'roles');
    await writeFile(join(instance.project, 'aws/stack.env'), `${STACK_ENV.join('\n')}\n`);
    const dockerfile = await readFile(join(ROOT, 'stack/Dockerfile'), 'utf8');
    await writeFile(join(instance.project, 'stack/Dockerfile'), dockerfile);
    await instance.standIns.write('aws.json', {
      instances: [
        { id: 'i-0a1', state: 'running' },
        { id: 'i-0c1', state: 'running' },
        { id: 'i-0d9', state: 'terminated' },
      ],
    });
    const say =
      'env | grep -E "^(TURNOUT_|[A-Z]+_IMAGE|WORKERS|VOTE_HOST|LOG_GROUP|REDIS_)" | sort >>"$STAND_INS/env-of-$(basename "$0")"';
    for (const script of ['images.sh', 'deploy.sh', 'label.sh', 'verify.sh'])
      await instance.replace(script, say);
    await instance.replace(
      'secrets.sh',
      `[ -e "$TURNOUT_CREDENTIALS" ] || { mkdir -p "$(dirname "$TURNOUT_CREDENTIALS")"; printf '${CREDENTIALS.replaceAll('\n', '\\n')}' >"$TURNOUT_CREDENTIALS"; }\n${say}`,
    );
  });

  const environmentOf = async (script: string): Promise<Record<string, string>> => {
    const text = await readFile(join(instance.standIns.state, `env-of-${script}`), 'utf8');
    return Object.fromEntries(text.split('\n').map((line) => line.split(/=(.*)/s).slice(0, 2)));
  };

  test('builds, stores the passwords, deploys and casts a vote, in this order', async () => {
    await instance.run('release.sh');
    const steps = (await instance.standIns.calls())
      .map((call) =>
        call
          .split(' ')
          .slice(0, call.startsWith('images.sh') ? 2 : 1)
          .join(' '),
      )
      .filter((call) => call.includes('.sh') && call !== 'label.sh');
    expect(steps).toEqual(['images.sh build', 'images.sh push', 'secrets.sh', 'deploy.sh', 'verify.sh']);
    expect(await instance.kept('credentials')).toEqual({
      type: 'SecureString',
      value: CREDENTIALS.trimEnd(),
    });
    const environment = await environmentOf('deploy.sh');
    expect(environment).toMatchObject({
      TURNOUT_REGISTRY: REGISTRY,
      TURNOUT_STACK_FILES: `${instance.project}/aws/logs.yml`,
      WORKERS: '6',
      VOTE_HOST: 'vote.example.com',
      REDIS_MEMORY: '2g',
    });
    expect(environment['TURNOUT_VERSION']).toMatch(/^[0-9a-f]{12}$/);
    expect((await instance.kept('release')).value).toBe(
      `${REGISTRY} ${environment['TURNOUT_VERSION']} dashboard.example.com`,
    );
    expect(await environmentOf('images.sh')).toMatchObject({
      NODE_IMAGE: 'public.ecr.aws/docker/library/node@sha256:a',
      POSTGRES_IMAGE: 'public.ecr.aws/docker/library/postgres@sha256:a',
    });
    const calls = (await instance.standIns.calls()).join('\n');
    for (const secret of ['pass-of', 'registry-password']) expect(calls).not.toContain(secret);
  });

  test('reuses images of the same content, and versions other content differently', async () => {
    await instance.run('release.sh');
    const first = (await environmentOf('deploy.sh'))['TURNOUT_VERSION'] ?? '';
    const state = await instance.standIns.read<object>('aws.json');
    await instance.standIns.write('aws.json', { ...state, images: [first] });
    await instance.run('release.sh');
    expect(await instance.callsOf('images.sh build')).toHaveLength(1);
    await writeFile(join(instance.project, 'dist/vote.mjs'), 'better');
    await instance.run('release.sh');
    expect(await instance.callsOf('images.sh build')).toHaveLength(2);
  });

  test('builds new images when a base image is patched, or the settings name another one', async () => {
    const versions = new Set<string | undefined>();
    const release = async (): Promise<number> => {
      await instance.run('release.sh');
      versions.add((await environmentOf('deploy.sh'))['TURNOUT_VERSION']);
      return versions.size;
    };
    expect(await release()).toBe(1);
    const docker = await instance.standIns.read<object>('docker.json');
    await instance.standIns.write('docker.json', { ...docker, digest: 'b' });
    expect(await release()).toBe(2);
    const settings = join(instance.project, 'aws/settings.env');
    await writeFile(settings, `${await readFile(settings, 'utf8')}\nREDIS_IMAGE=redis@sha256:c\n`);
    expect(await release()).toBe(3);
    expect((await environmentOf('images.sh'))['REDIS_IMAGE']).toBe('redis@sha256:c');
    await writeFile(join(instance.project, 'package.json'), '{}');
    expect(await release()).toBe(4);
    expect(await release()).toBe(4);
  });

  test('uses the passwords of another manager', async () => {
    await instance.keep('credentials', 'operator=older');
    await instance.run('release.sh');
    expect(await readFile(join(instance.root, 'etc/turnout/credentials'), 'utf8')).toBe('operator=older\n');
    expect((await instance.kept('credentials')).value).toBe('operator=older');
  });

  test('waits for all instances, and reports one that does not become a node', async () => {
    const state = await instance.standIns.read<{ instances: object[] }>('aws.json');
    await instance.standIns.write('aws.json', {
      instances: [...state.instances, { id: 'i-0e1', state: 'running' }],
    });
    await expect(instance.run('release.sh', [], { TURNOUT_NODES_SECONDS_MAX: '1' })).rejects.toThrow(
      'all instances as nodes: not within 1 s',
    );
    expect(await instance.callsOf('deploy.sh')).toEqual([]);
  });
});

describe('measure.sh', () => {
  const LEDGER = {
    postgres: { reachable: true },
    total: { accepted: 10, pending: 4, failed: 0, lost: 0 },
    nodes: [{ node: 'a', accepted: 10, pending: 4, failed: 0, lost: 0 }],
    queues: [],
  };

  /** A dashboard that requires the operator's password. */
  async function serveDashboard(ledger: object): Promise<{ url: string; close: () => void }> {
    const digest = Buffer.from('operator:pass-of-the-operator').toString('base64');
    const server = createServer(({ headers, url }, response) => {
      const isRight = headers.authorization === `Basic ${digest}` && headers.host === 'dashboard.example.com';
      response.writeHead(isRight && url === '/ledger' ? 200 : 401).end(JSON.stringify(ledger));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, close: () => server.close() };
  }

  test('publishes the metrics of the audit without exposing the password', async () => {
    await instance.keep('release', `${REGISTRY} abc dashboard.example.com`);
    await instance.keep('credentials', CREDENTIALS);
    const dashboard = await serveDashboard(LEDGER);
    try {
      await instance.run('measure.sh', [], { TURNOUT_DASHBOARD: dashboard.url });
    } finally {
      dashboard.close();
    }
    const metrics = await instance.standIns.read<{ MetricName: string; Value: number }[]>('metrics.json');
    expect(metrics).toContainEqual({
      MetricName: 'Pending',
      Unit: 'Count',
      Value: 4,
      Dimensions: [{ Name: 'Stack', Value: 'turnout' }],
    });
    expect((await instance.standIns.calls()).join('\n')).not.toContain('pass-of');
  });

  test('publishes nothing when the audit is unavailable', async () => {
    await instance.keep('release', `${REGISTRY} abc dashboard.example.com`);
    await instance.keep('credentials', CREDENTIALS);
    const dashboard = await serveDashboard({ ...LEDGER, postgres: { reachable: false } });
    try {
      await expect(instance.run('measure.sh', [], { TURNOUT_DASHBOARD: dashboard.url })).rejects.toThrow(
        'Postgres is unavailable to the dashboard',
      );
    } finally {
      dashboard.close();
    }
    expect(await instance.callsOf('aws cloudwatch')).toEqual([]);
  });

  test('does nothing before the first release', async () => {
    await instance.run('measure.sh');
    expect(await instance.callsOf('aws cloudwatch')).toEqual([]);
  });
});
