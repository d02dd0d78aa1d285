import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type StandInInstance, standInInstance } from '#kit/stand-ins.ts';

/** The operator's scripts, with a stand-in for AWS: nothing here shows that AWS would create the stack. */
const OUTPUTS = {
  Registry: '123456789012.dkr.ecr.us-east-1.amazonaws.com/turnout',
  LogGroup: '/turnout/turnout',
  VoteHost: 'vote.example.com',
  ResultsHost: 'results.example.com',
  DashboardHost: 'dashboard.example.com',
  VoteUrl: 'http://vote.example.com',
  ResultsUrl: 'http://results.example.com',
  DashboardUrl: 'http://dashboard.example.com',
  LoadBalancer: 'nlb.example.com',
  Workers: '2',
  Bucket: 'the-bucket',
  FirstManager: 'i-0a1',
  FrontendDiskGiB: '20',
  StoreDisk: 'vol-store',
};

let operator: StandInInstance;

beforeEach(async () => {
  operator = await standInInstance();
  for (const folder of ['dist', 'db']) await mkdir(join(operator.project, folder));
  for (const file of ['.dockerignore', 'package.json', 'dist/vote.mjs', 'db/roles.sql']) {
    await writeFile(join(operator.project, file), '');
  }
  await writeFile(
    join(operator.standIns.state, '../bin/npm'),
    '#!/bin/sh\necho "npm $*" >>"$STAND_INS/calls"\n',
    {
      mode: 0o755,
    },
  );
  await operator.replace('verify.sh');
});

afterEach(() => operator.remove());

const FAST = { TURNOUT_POLL_SECONDS: '0.01', TURNOUT_DRAIN_SECONDS_MAX: '1' };

describe('deploy.sh', () => {
  test('builds, creates the stack, uploads the archive, releases, and casts a vote from outside', async () => {
    await operator.standIns.write('aws.json', { outputs: OUTPUTS, parameters: { Zones: '2' } });
    const said = await operator.run(
      'deploy.sh',
      ['--region', 'eu-central-1', 'FrontendCount=30', 'Zones=2'],
      FAST,
    );
    const calls = await operator.standIns.calls();
    const steps = [
      'npm --prefix',
      'aws cloudformation deploy',
      'aws s3 cp',
      'aws ssm describe-instance-information',
      'aws ssm send-command',
      'verify.sh --url http://nlb.example.com',
    ].map((start) => calls.findIndex((call) => call.startsWith(start)));
    expect(steps).not.toContain(-1);
    expect(steps).toEqual(steps.toSorted((a, b) => a - b));
    expect(calls.find((call) => call.startsWith('aws cloudformation deploy'))).toMatch(
      /--stack-name turnout .*--parameter-overrides FrontendCount=30 Zones=2$/,
    );
    expect(
      calls
        .filter((call) => call.includes('send-command'))
        .map((call) => call.match(/"commands":\["(.*?)"/)?.[1]),
    ).toEqual([
      'systemctl restart turnout-node.service',
      '/opt/turnout/aws/release.sh',
      'systemctl restart --no-block turnout-node.service',
    ]);
    expect(said).toContain('Vote: http://vote.example.com');
  });

  test('packs everything the machines need, and the outputs of the stack', async () => {
    await operator.standIns.write('aws.json', { outputs: OUTPUTS });
    await operator.run('deploy.sh', [], FAST);
    const archive = join(operator.standIns.state, 'uploaded');
    const { stdout: list } = await promisify(execFile)('tar', ['-tzf', archive]);
    for (const file of [
      'aws/node.sh',
      'aws/units/turnout-reconcile-nodes.timer',
      'aws/stack.env',
      'stack/swarm/join.sh',
      'dist/vote.mjs',
      'db/roles.sql',
      '.dockerignore',
    ]) {
      expect(list.split('\n')).toContain(file);
    }
    const { stdout: env } = await promisify(execFile)('tar', ['-xzOf', archive, 'aws/stack.env']);
    expect(env.trim().split('\n')).toEqual([
      'TURNOUT_REGISTRY=123456789012.dkr.ecr.us-east-1.amazonaws.com/turnout',
      'LOG_GROUP=/turnout/turnout',
      'VOTE_HOST=vote.example.com',
      'RESULTS_HOST=results.example.com',
      'DASHBOARD_HOST=dashboard.example.com',
      'WORKERS=2',
    ]);
  });

  test('fails with the manager’s output when the release fails', async () => {
    await operator.standIns.write('aws.json', { outputs: OUTPUTS, commandStatus: 'Failed' });
    await expect(operator.run('deploy.sh', [], FAST)).rejects.toThrow('said there');
    expect(await operator.callsOf('verify.sh')).toEqual([]);
  });

  test('enlarges smaller disks of frontends, then the file systems of frontends and store', async () => {
    const volumes = [
      { id: 'vol-small', zone: 'us-east-1a', size: 20 },
      { id: 'vol-large', zone: 'us-east-1a', size: 60 },
    ];
    await operator.standIns.write('aws.json', { outputs: { ...OUTPUTS, FrontendDiskGiB: '50' }, volumes });
    await operator.run('deploy.sh', ['FrontendDiskGiB=50'], FAST);
    const calls = await operator.standIns.calls();
    expect(calls.filter((call) => call.includes('modify-volume '))).toEqual([
      'aws ec2 modify-volume --volume-id vol-small --size 50',
    ]);
    const modified = calls.findIndex((call) => call.includes('describe-volumes-modifications'));
    const restarted = calls.findIndex((call) => call.includes('--no-block turnout-node'));
    expect(calls[restarted]).toContain(
      '--targets Key=tag:turnout:stack,Values=turnout Key=tag:turnout:role,Values=frontend,store',
    );
    expect(restarted).toBeGreaterThan(modified);
  });

  const PRESENT = {
    ManagerCount: '3',
    Zones: '3',
    Architecture: 'arm64',
    UseRds: 'false',
    StoreSnapshot: '',
  };

  test.each([
    ['StoreSnapshot=snap-0a1', 'StoreSnapshot is fixed when the stack is created; it is empty'],
    ['Zones=2', 'Zones is fixed when the stack is created; it is 3'],
    ['Architecture=amd64', 'Architecture is fixed'],
    ['UseRds=true', 'UseRds is fixed'],
  ])('refuses %s for an existing stack, with the reason', async (change, words) => {
    await operator.standIns.write('aws.json', { outputs: OUTPUTS, parameters: PRESENT });
    expect(await operator.failureOf('deploy.sh', 'FrontendCount=9', change)).toContain(words);
    expect(await operator.callsOf('aws cloudformation deploy')).toEqual([]);
  });

  const MANAGERS = [
    { id: 'i-0a1', state: 'running', role: 'manager' },
    { id: 'i-0a2', state: 'running', role: 'manager' },
    { id: 'i-0a3', state: 'running', role: 'manager' },
  ];

  test('makes two of three managers workers, one by one, before CloudFormation ends them', async () => {
    await operator.standIns.write('aws.json', { outputs: OUTPUTS, parameters: PRESENT, instances: MANAGERS });
    await operator.run('deploy.sh', ['ManagerCount=1'], FAST);
    const calls = await operator.standIns.calls();
    const demotions = calls.filter((call) => call.includes('docker node demote'));
    expect(demotions.map((call) => call.match(/--instance-ids (\S+)|demote (\S+)/g))).toEqual([
      ['--instance-ids i-0a1', 'demote manager-0a2'],
      ['--instance-ids i-0a1', 'demote manager-0a3'],
    ]);
    const places = [...demotions, calls.find((call) => call.startsWith('aws cloudformation deploy')) ?? ''];
    expect(places.map((call) => calls.indexOf(call))).toEqual(
      places.map((call) => calls.indexOf(call)).toSorted((a, b) => a - b),
    );
  });

  test('ends no manager when one could not be demoted', async () => {
    await operator.standIns.write('aws.json', {
      outputs: OUTPUTS,
      parameters: PRESENT,
      instances: MANAGERS,
      commandStatus: 'Failed',
    });
    expect(await operator.failureOf('deploy.sh', 'ManagerCount=1')).toContain('demote manager-0a2');
    expect(await operator.callsOf('aws cloudformation deploy')).toEqual([]);
  });

  test('starts from a snapshot only with the passwords of its stack', async () => {
    expect(await operator.failureOf('deploy.sh', 'StoreSnapshot=snap-0a1')).toContain(
      '/turnout/turnout/credentials must hold the passwords',
    );
    expect(await operator.callsOf('aws cloudformation deploy')).toEqual([]);
    await operator.keep('credentials', 'worker=former');
    await operator.run('deploy.sh', ['StoreSnapshot=snap-0a1'], FAST).catch(() => {});
    expect(await operator.callsOf('aws cloudformation deploy')).toHaveLength(1);
  });

  test.each([
    ['a new stack', {}, 'ManagerCount=1'],
    ['more managers', { parameters: { ...PRESENT, ManagerCount: '1' } }, 'ManagerCount=3'],
    ['the same zones', { parameters: PRESENT }, 'Zones=3'],
    ['no snapshot', { parameters: PRESENT }, 'StoreSnapshot='],
    ['another size', { parameters: PRESENT }, 'StoreSize=xlarge'],
  ])('passes the parameters of %s on', async (_, state, change) => {
    await operator.standIns.write('aws.json', {
      ...('parameters' in state && { outputs: OUTPUTS }),
      ...state,
    });
    await operator.run('deploy.sh', [change], FAST).catch(() => {});
    expect(await operator.callsOf('aws cloudformation deploy')).toHaveLength(1);
  });

  test('changes nothing when the stack cannot be read', async () => {
    await operator.standIns.write('aws.json', { outputs: OUTPUTS, isExpired: true });
    expect(await operator.failureOf('deploy.sh', 'ManagerCount=1')).toContain('ExpiredToken');
    expect(await operator.callsOf('aws cloudformation deploy')).toEqual([]);
  });

  test.each([['Turnout'], ['a_b'], ['9lives']])('refuses %s as a name', async (name) => {
    expect(await operator.failureOf('deploy.sh', '--name', name)).toContain('NAME must be');
    expect(await operator.callsOf('aws')).toEqual([]);
  });

  test('prints its usage on wrong arguments', async () => {
    expect(await operator.failureOf('deploy.sh', '--frontends', '3')).toContain('deploy.sh [--name NAME]');
  });
});

describe('patch.sh', () => {
  const patched = async () =>
    (await operator.callsOf('aws ssm send-command'))
      .filter((call) => call.includes('aws/patch-manager.sh'))
      .map((call) => call.match(/--instance-ids (\S+)/)?.[1]);
  const refreshed = async () =>
    (await operator.callsOf('aws autoscaling start-instance-refresh')).map((call) => call.split(' ')[4]);
  const machine = (id: string, role: string, state = 'running') => ({ id, state, role });
  const instances = [
    machine('i-0a1', 'manager'),
    machine('i-0a2', 'manager'),
    machine('i-0a3', 'manager', 'terminated'),
    machine('i-0e1', 'store'),
  ];

  test('patches the managers one after the other, then replaces all other machines', async () => {
    await operator.standIns.write('aws.json', { instances });
    await operator.run('patch.sh', [], FAST);
    expect(await patched()).toEqual(['i-0a1', 'i-0a2']);
    expect(await refreshed()).toEqual(
      ['worker', 'interlock', 'frontend', 'store'].map((role) => `turnout-${role}`),
    );
  });

  test('stops at a manager that fails', async () => {
    await operator.standIns.write('aws.json', { instances, commandStatus: 'Failed' });
    await expect(operator.run('patch.sh', [], FAST)).rejects.toThrow('said there');
    expect(await patched()).toEqual(['i-0a1']);
    expect(await refreshed()).toEqual([]);
  });

  test('continues beside a refresh that is under way', async () => {
    await operator.standIns.write('aws.json', { instances, refreshing: ['turnout-worker'] });
    expect(await operator.run('patch.sh', [], FAST)).toContain('turnout-worker is already being refreshed.');
    expect(await refreshed()).toHaveLength(4);
  });

  test('patches nothing without a stack', async () => {
    expect(await operator.failureOf('patch.sh')).toContain('no stack is named turnout');
  });
});

describe('destroy.sh', () => {
  const answers = async (answer: string, env: Record<string, string> = {}): Promise<string> => {
    const script = `printf '%s\\n' '${answer}' | bash '${join(operator.project, 'aws/destroy.sh')}'`;
    return promisify(execFile)('bash', ['-c', script], {
      env: { ...operator.standIns.env, ...FAST, ...env },
    }).then(
      ({ stdout }) => stdout,
      (error: { stderr: string }) => error.stderr,
    );
  };

  test('drains, empties the bucket, deletes everything, and lists what remains', async () => {
    await operator.standIns.write('aws.json', {
      outputs: OUTPUTS,
      instances: [
        { id: 'i-0d1', state: 'running', role: 'frontend' },
        { id: 'i-0e1', state: 'running', role: 'store' },
      ],
    });
    for (const name of ['credentials', 'worker-token']) await operator.keep(name, 'x');
    const said = await answers('turnout');
    expect(said).toContain('--filters Name=volume-id,Values=vol-store');
    const calls = await operator.standIns.calls();
    const steps = [
      'aws autoscaling update-auto-scaling-group --auto-scaling-group-name turnout-frontend --min-size 0 --desired-capacity 0',
      'aws s3 rm --only-show-errors --recursive s3://the-bucket',
      'aws cloudformation delete-stack',
      'aws cloudformation wait stack-delete-complete',
      'aws ssm delete-parameter',
    ].map((start) => calls.findIndex((call) => call.startsWith(start)));
    expect(steps).not.toContain(-1);
    expect(steps).toEqual(steps.toSorted((a, b) => a - b));
    await expect(operator.kept('credentials')).rejects.toThrow('ENOENT');
  });

  test.each([
    'autoscaling update-auto-scaling-group',
    's3 rm',
    'cloudformation delete-stack',
    'cloudformation wait',
  ])('completes in a second run after an interruption at %s', async (interrupted) => {
    await operator.standIns.write('aws.json', {
      outputs: OUTPUTS,
      instances: [
        { id: 'i-0d1', state: 'running', role: 'frontend' },
        { id: 'i-0e1', state: 'running', role: 'store' },
      ],
      interrupted,
    });
    await operator.keep('credentials', 'x');
    await expect(operator.run('destroy.sh', ['--yes'], FAST)).rejects.toThrow();
    await operator.run('destroy.sh', ['--yes'], FAST);
    const { outputs, instances } = await operator.standIns.read<{ outputs?: object; instances: object[] }>(
      'aws.json',
    );
    expect(outputs).toBeUndefined();
    expect(instances).toEqual([{ id: 'i-0e1', state: 'running', role: 'store' }]);
    await expect(operator.kept('credentials')).rejects.toThrow('ENOENT');
    // Now nothing is left.
    expect(await operator.failureOf('destroy.sh', '--yes')).toContain('no stack is named turnout');
  });

  test('keeps disks with uncounted votes when the stack is gone already, except with --undrained', async () => {
    await operator.standIns.write('aws.json', { volumes: [{ id: 'vol-1', zone: 'us-east-1a' }] });
    expect(await answers('turnout')).toContain('may hold uncounted votes: vol-1');
    expect(await operator.callsOf('aws ec2 delete-volume')).toEqual([]);
    await operator.run('destroy.sh', ['--undrained', '--yes'], FAST);
    expect(await operator.callsOf('aws ec2 delete-volume')).toHaveLength(1);
  });

  test('does not take expired credentials for a missing stack', async () => {
    await operator.standIns.write('aws.json', { outputs: OUTPUTS, isExpired: true });
    expect(await answers('turnout')).toContain('ExpiredToken');
    expect(await operator.callsOf('aws ssm delete-parameter')).toEqual([]);
  });

  test('deletes nothing while a frontend’s disk exists, except with --undrained', async () => {
    await operator.standIns.write('aws.json', {
      outputs: OUTPUTS,
      volumes: [{ id: 'vol-1', zone: 'us-east-1a' }],
    });
    expect(await answers('turnout')).toContain('may hold uncounted votes: vol-1');
    expect(await operator.callsOf('aws cloudformation delete-stack')).toEqual([]);
    await operator.run('destroy.sh', ['--undrained', '--yes'], FAST);
    expect(await operator.callsOf('aws cloudformation delete-stack')).toHaveLength(1);
    expect(await operator.callsOf('aws ec2 delete-volume')).toEqual([
      'aws ec2 delete-volume --volume-id vol-1',
    ]);
  });

  test('treats a failed call as an error, not as an empty result', async () => {
    await operator.standIns.write('aws.json', { outputs: OUTPUTS, isThrottled: true });
    expect(await answers('turnout')).toContain('Throttling');
    expect(await operator.callsOf('aws cloudformation delete-stack')).toEqual([]);
  });

  test('asks for confirmation, and deletes nothing without it', async () => {
    await operator.standIns.write('aws.json', { outputs: OUTPUTS });
    expect(await answers('yes')).toContain('nothing removed');
    expect((await operator.callsOf('aws')).filter((call) => !call.includes('describe'))).toEqual([]);
  });
});
