import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type StandInInstance, standInInstance } from '#kit/stand-ins.ts';

/**
 * The scripts of AWS instances, with stand-ins for AWS, Docker and the machine: their actions, the order, and that they do not
 * expose secrets.
 */
let instance: StandInInstance;

beforeEach(async () => {
  instance = await standInInstance();
});

afterEach(() => instance.remove());

const MANAGERS = '10.42.8.10 10.42.8.26 10.42.8.42';

describe('node.sh on a manager', () => {
  test('creates the Swarm on the first manager, and stores its tokens without showing them in an argument', async () => {
    await instance.keep('managers', MANAGERS);
    await instance.become('manager', 'i-0a1', '10.42.8.10');
    await instance.run('node.sh');
    expect(await instance.callsOf('docker swarm init')).toHaveLength(1);
    expect(await instance.kept('worker-token')).toEqual({ type: 'SecureString', value: 'token-of-a-worker' });
    expect(await instance.kept('manager-token')).toEqual({
      type: 'SecureString',
      value: 'token-of-a-manager',
    });
    expect((await instance.callsOf('aws')).filter((call) => call.includes('token-of-a'))).toEqual([]);
    expect(await instance.callsOf('systemctl enable')).toContain(
      'systemctl enable --quiet --now turnout-reconcile-nodes.timer turnout-measure.timer',
    );
    const units = await readdir(join(instance.root, 'etc/systemd/system'));
    expect(units).toEqual(
      expect.arrayContaining(['turnout-reconcile-nodes.timer', 'turnout-retire@.service']),
    );
  });

  test('changes nothing on a second run', async () => {
    await instance.keep('managers', MANAGERS);
    await instance.become('manager', 'i-0a1', '10.42.8.10');
    await instance.run('node.sh');
    await instance.run('node.sh');
    expect(await instance.callsOf('docker swarm init')).toHaveLength(1);
    expect(await instance.callsOf('aws ssm put-parameter')).toHaveLength(2);
  });

  test('joins as a manager, through the next one if the first is down', async () => {
    await instance.keep('managers', MANAGERS);
    await instance.keep('manager-token', 'token-of-a-manager');
    await instance.standIns.write('docker.json', { unreachable: ['10.42.8.10'] });
    await instance.become('manager', 'i-0a3', '10.42.8.42');
    await instance.run('node.sh');
    expect((await instance.standIns.read<{ joined: unknown }>('docker.json')).joined).toEqual({
      manager: '10.42.8.26:2377',
      token: 'token-of-a-manager',
    });
    expect(await instance.callsOf('docker swarm init')).toEqual([]);
  });

  test('fails on a later manager while there is no Swarm', async () => {
    await instance.keep('managers', MANAGERS);
    await instance.become('manager', 'i-0a2', '10.42.8.26');
    expect(await instance.failureOf('node.sh')).toContain('no manager accepts this manager yet');
    expect(await instance.callsOf('docker swarm init')).toEqual([]);
  });

  test('creates no second Swarm while the first may exist', async () => {
    await instance.keep('managers', MANAGERS);
    await instance.keep('manager-token', 'token-of-a-manager');
    await instance.standIns.write('docker.json', { unreachable: ['10.42.8.26', '10.42.8.42'] });
    await instance.become('manager', 'i-0a9', '10.42.8.10');
    expect(await instance.failureOf('node.sh')).toContain('a Swarm exists');
    expect(await instance.callsOf('docker swarm init')).toEqual([]);
  });
});

describe('node.sh on a worker', () => {
  test('joins with the worker token, under a name that identifies the instance', async () => {
    await instance.keep('managers', MANAGERS);
    await instance.keep('worker-token', 'token-of-a-worker');
    await instance.keep('release', '1.dkr.ecr.us-east-1.amazonaws.com/turnout abc123 dashboard.example.com');
    await instance.standIns.write('aws.json', { denied: ['manager-token', 'credentials'] });
    await instance.become('worker', 'i-0b1', '10.42.16.77');
    const said = await instance.run('node.sh');
    expect(said).toContain('This is worker-0b1, at 10.42.16.77.');
    expect(await instance.callsOf('hostnamectl')).toEqual(['hostnamectl set-hostname worker-0b1']);
    expect((await instance.standIns.read<{ joined: unknown }>('docker.json')).joined).toEqual({
      manager: '10.42.8.10:2377',
      token: 'token-of-a-worker',
    });
    expect(await instance.callsOf('docker pull')).toEqual([
      'docker pull --quiet 1.dkr.ecr.us-east-1.amazonaws.com/turnout/turnout-worker:abc123',
      'docker pull --quiet 1.dkr.ecr.us-east-1.amazonaws.com/turnout/turnout-issuer:abc123',
    ]);
    const calls = await instance.standIns.calls();
    expect(calls.findIndex((call) => call.startsWith('docker pull'))).toBeLessThan(
      calls.findIndex((call) => call.startsWith('docker swarm join')),
    );
    expect(calls.join('\n')).not.toContain('registry-password');
  });

  test('fails while the token is empty, to be retried', async () => {
    await instance.keep('managers', MANAGERS);
    await instance.become('worker', 'i-0b1', '10.42.16.77');
    expect(await instance.failureOf('node.sh')).toContain('no manager accepts this node yet');
  });

  test('declares its role to the engine', async () => {
    await instance.keep('managers', MANAGERS);
    await instance.keep('worker-token', 'token-of-a-worker');
    await instance.become('interlock', 'i-0c1', '10.42.16.78');
    await instance.run('node.sh');
    const config = await readFile(join(instance.root, 'etc/docker/daemon.json'), 'utf8');
    expect(JSON.parse(config)).toMatchObject({ labels: ['role=interlock'] });
  });
});

describe('node.sh on a frontend', () => {
  type Volume = { id: string; zone: string; instance?: string };
  const device = (id: string) =>
    join(instance.root, `dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${id.replace('-', '')}`);
  const volumes = async () => (await instance.standIns.read<{ volumes: Volume[] }>('aws.json')).volumes;

  beforeEach(async () => {
    await instance.keep('managers', MANAGERS);
    await instance.keep('worker-token', 'token-of-a-worker');
    await instance.become('frontend', 'i-0d1', '10.42.16.79', 'FRONTEND_DISK_GIB=33\n');
  });

  test('creates an encrypted disk, and mounts it for Docker volumes before it installs Docker', async () => {
    await instance.run('node.sh');
    expect(await volumes()).toEqual([{ id: 'vol-0000', zone: 'us-east-1a', instance: 'i-0d1' }]);
    const [create] = await instance.callsOf('aws ec2 create-volume');
    expect(create).toContain('--encrypted --size 33');
    expect(create).toContain('{Key=turnout:stack,Value=turnout},{Key=turnout:role,Value=frontend}');
    const table = await readFile(join(instance.root, 'etc/fstab'), 'utf8');
    expect(table).toBe(
      `UUID=uuid-of-nvme-Amazon_Elastic_Block_Store_vol0000 ${instance.root}/var/lib/docker/volumes xfs defaults,noatime,nofail 0 2\n`,
    );
    const calls = await instance.standIns.calls();
    expect(calls.findIndex((call) => call.startsWith('mount '))).toBeLessThan(
      calls.findIndex((call) => call.startsWith('docker')),
    );
    const guard = await readFile(
      join(instance.root, 'etc/systemd/system/docker.service.d/turnout.conf'),
      'utf8',
    );
    expect(guard).toContain(`RequiresMountsFor=${instance.root}/var/lib/docker/volumes`);
  });

  test('takes over the disk of a lost frontend in its zone with its data', async () => {
    await instance.standIns.write('aws.json', {
      volumes: [
        { id: 'vol-0001', zone: 'us-east-1b' },
        { id: 'vol-0002', zone: 'us-east-1a', instance: 'i-other' },
        { id: 'vol-0003', zone: 'us-east-1a' },
      ],
    });
    await writeFile(device('vol-0003'), 'votes\n');
    await instance.run('node.sh');
    expect((await volumes()).map(({ id, instance }) => [id, instance])).toEqual([
      ['vol-0001', undefined],
      ['vol-0002', 'i-other'],
      ['vol-0003', 'i-0d1'],
    ]);
    expect(await instance.callsOf('mkfs')).toEqual([]);
    expect(await readFile(device('vol-0003'), 'utf8')).toBe('votes\n');
  });

  test('keeps its disk after a restart', async () => {
    await instance.run('node.sh');
    await instance.run('node.sh');
    expect(await volumes()).toHaveLength(1);
    expect(await instance.callsOf('mkfs')).toHaveLength(1);
    expect((await readFile(join(instance.root, 'etc/fstab'), 'utf8')).split('\n')).toHaveLength(2);
  });
});

describe('node.sh on the store', () => {
  const disk = { id: 'vol-0001', zone: 'us-east-1a' };
  const holder = async () =>
    (await instance.standIns.read<{ volumes: { instance?: string }[] }>('aws.json')).volumes[0]?.instance;
  const device = () => join(instance.root, 'dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0001');

  beforeEach(async () => {
    await instance.keep('managers', MANAGERS);
    await instance.keep('worker-token', 'token-of-a-worker');
    await instance.become('store', 'i-0e2', '10.42.16.80', 'DATA_VOLUME=vol-0001\n');
    await writeFile(device(), 'tables\n');
  });

  test('takes over the disk with its data, before it starts Docker', async () => {
    await instance.standIns.write('aws.json', { volumes: [disk] });
    await instance.run('node.sh');
    expect(await holder()).toBe('i-0e2');
    expect(await instance.callsOf('mkfs')).toEqual([]);
    expect(await readFile(device(), 'utf8')).toBe('tables\n');
    const calls = await instance.standIns.calls();
    expect(calls.findIndex((call) => call.startsWith('mount '))).toBeLessThan(
      calls.findIndex((call) => call.startsWith('docker')),
    );
    // A further boot finds it attached.
    await instance.run('node.sh');
    expect(await instance.callsOf('aws ec2 attach-volume')).toHaveLength(1);
  });

  test('fails, to be retried, while the former store has the disk', async () => {
    await instance.standIns.write('aws.json', { volumes: [{ ...disk, instance: 'i-0e1' }] });
    expect(await instance.failureOf('node.sh')).toContain('IncorrectState');
    expect(await holder()).toBe('i-0e1');
    expect(await instance.callsOf('docker')).toEqual([]);
    expect(await instance.callsOf('mount ')).toEqual([]);
  });
});

/** A Swarm node in the format of `docker node`. */
const node = (name: string, state: string, role = '', more = {}) => ({
  ID: `id-${name}`,
  Status: { State: state, Addr: '10.42.16.1' },
  Spec: { Role: name.startsWith('manager') ? 'manager' : 'worker', Labels: role ? { role } : {} },
  Description: { Hostname: name, Engine: { Labels: { role: name.split('-')[0] } } },
  ...more,
});
const LEADER = node('manager-0a1', 'ready', '', { ManagerStatus: { Leader: true } });

/** Makes this instance the leader of a Swarm with these other nodes. */
async function lead(...nodes: unknown[]): Promise<void> {
  await instance.become('manager', 'i-0a1', '10.42.8.10');
  await writeFile(join(instance.standIns.state, 'hostname'), 'manager-0a1\n');
  await instance.standIns.write('docker.json', {
    isActive: true,
    isManager: true,
    self: 'manager-0a1',
    nodes: [LEADER, ...nodes],
  });
}

const nodes = async () =>
  (await instance.standIns.read<{ nodes: ReturnType<typeof node>[] }>('docker.json')).nodes.map(
    ({ Description, Spec }) => [Description.Hostname, Spec.Labels['role']],
  );

describe('reconcile-nodes.sh', () => {
  test('labels new nodes with their declared role', async () => {
    await lead(node('frontend-0d1', 'ready'));
    await instance.run('reconcile-nodes.sh');
    expect(await nodes()).toEqual([
      ['manager-0a1', undefined],
      ['frontend-0d1', 'frontend'],
    ]);
  });

  test('removes only nodes of terminated instances', async () => {
    await lead(
      node('frontend-0d1', 'down', 'frontend'),
      node('frontend-0d2', 'down', 'frontend'),
      node('manager-0a2', 'down'),
      node('worker-0b1', 'ready', 'worker'),
    );
    await instance.standIns.write('aws.json', {
      instances: [
        { id: 'i-0a1', state: 'running' },
        { id: 'i-0a2', state: 'terminated' },
        { id: 'i-0d1', state: 'terminated' },
        { id: 'i-0d2', state: 'stopped' },
      ],
    });
    await instance.run('reconcile-nodes.sh');
    expect((await nodes()).map(([name]) => name)).toEqual(['manager-0a1', 'frontend-0d2', 'worker-0b1']);
  });

  test('labels a new store once the former one has terminated', async () => {
    await lead(node('store-0e1', 'down', 'store'), node('store-0e2', 'ready'));
    const former = (state: string) => ({
      instances: [
        { id: 'i-0a1', state: 'running' },
        { id: 'i-0e1', state },
      ],
    });
    await instance.standIns.write('aws.json', former('stopping'));
    expect(await instance.failureOf('reconcile-nodes.sh')).toContain('there may be one store only');
    await instance.standIns.write('aws.json', former('shutting-down'));
    await instance.run('reconcile-nodes.sh');
    expect(await nodes()).toEqual([
      ['manager-0a1', undefined],
      ['store-0e2', 'store'],
    ]);
  });

  test('removes no node on an implausible response', async () => {
    await lead(node('frontend-0d1', 'down', 'frontend'));
    expect(await instance.failureOf('reconcile-nodes.sh')).toContain('EC2 does not list this instance');
    expect(await nodes()).toHaveLength(2);
  });

  test('retires every frontend that Auto Scaling wants to terminate', async () => {
    await lead();
    await instance.standIns.write('aws.json', {
      instances: [
        { id: 'i-0d1', state: 'running', lifecycle: 'Terminating:Wait' },
        { id: 'i-0d2', state: 'running', lifecycle: 'InService' },
        { id: 'i-0d3', state: 'running', lifecycle: 'Terminating:Wait' },
      ],
    });
    await instance.run('reconcile-nodes.sh');
    expect(await instance.callsOf('systemctl')).toEqual([
      'systemctl start --no-block turnout-retire@i-0d1.service',
      'systemctl start --no-block turnout-retire@i-0d3.service',
    ]);
  });

  describe('reports a new frontend to Auto Scaling', () => {
    const completed = async () =>
      (await instance.callsOf('aws autoscaling complete-lifecycle-action')).map((call) =>
        call.replace(/.*--lifecycle-hook-name (\S+) --instance-id (\S+) .*/, '$1 $2'),
      );
    const RELEASE = '1.dkr.ecr.us-east-1.amazonaws.com/turnout abc123 dashboard.example.com';

    beforeEach(async () => {
      await lead(node('frontend-0d1', 'ready', 'frontend'), node('frontend-0d2', 'ready', 'frontend'));
      await instance.standIns.write('aws.json', {
        instances: [
          { id: 'i-0d1', state: 'running', lifecycle: 'Pending:Wait' },
          { id: 'i-0d2', state: 'running', lifecycle: 'Pending:Wait' },
          { id: 'i-0d3', state: 'running', lifecycle: 'Pending:Wait' },
          { id: 'i-0d4', state: 'running', lifecycle: 'InService' },
        ],
      });
    });

    test('only once its handler accepts votes', async () => {
      await instance.keep('release', RELEASE);
      const state = await instance.standIns.read<object>('docker.json');
      const tasks = {
        'frontend-0d1': ['turnout_redis.x Running 1 minute ago', 'turnout_vote.x Running 5 seconds ago'],
        'frontend-0d2': ['turnout_redis.y Running 1 minute ago', 'turnout_vote.y Starting 5 seconds ago'],
      };
      await instance.standIns.write('docker.json', { ...state, tasks });
      await instance.run('reconcile-nodes.sh');
      expect(await completed()).toEqual(['ready i-0d1']);
    });

    test('only once it runs a proxy', async () => {
      await instance.keep('release', RELEASE);
      await lead(node('interlock-0c1', 'ready', 'interlock'), node('interlock-0c2', 'ready', 'interlock'));
      await instance.standIns.write('aws.json', {
        instances: ['i-0c1', 'i-0c2'].map((id) => ({
          id,
          state: 'running',
          role: 'interlock',
          lifecycle: 'Pending:Wait',
        })),
      });
      const state = await instance.standIns.read<object>('docker.json');
      const tasks = {
        'interlock-0c1': [
          'turnout_interlock.x Running 1 minute ago',
          'turnout_proxy.x Preparing 1 second ago',
        ],
        'interlock-0c2': ['turnout_proxy.y Running 5 seconds ago'],
      };
      await instance.standIns.write('docker.json', { ...state, tasks });
      await instance.run('reconcile-nodes.sh');
      expect(await completed()).toEqual(['ready i-0c2']);
      expect(await instance.callsOf('aws autoscaling complete')).toEqual([
        expect.stringContaining('--auto-scaling-group-name turnout-interlock '),
      ]);
    });

    test('at once before the first release', async () => {
      await instance.run('reconcile-nodes.sh');
      expect(await completed()).toEqual(['ready i-0d1', 'ready i-0d2', 'ready i-0d3']);
    });
  });

  test('does nothing except on the leader', async () => {
    await lead(node('frontend-0d1', 'ready'));
    const state = await instance.standIns.read<{ nodes: { ManagerStatus?: unknown }[] }>('docker.json');
    state.nodes[0] = { ...LEADER, ManagerStatus: { Leader: false } };
    await instance.standIns.write('docker.json', state);
    await instance.run('reconcile-nodes.sh');
    expect(await nodes()).toContainEqual(['frontend-0d1', undefined]);
    expect(await instance.callsOf('aws')).toEqual([]);
  });
});

describe('patch-manager.sh', () => {
  const other = (Reachability: string) =>
    node('manager-0a2', 'ready', '', { ManagerStatus: { Reachability } });
  const patch = async (): Promise<number> =>
    instance.run('patch-manager.sh', [], { TURNOUT_REACHABLE_SECONDS_MAX: '0' }).then(
      () => 0,
      ({ code }: { code: number }) => code,
    );

  test('upgrades, has Systems Manager restart the machine, and ends in the second run', async () => {
    await lead(other('Reachable'));
    expect(await patch()).toBe(194);
    expect(await instance.callsOf('dnf')).toEqual(['dnf upgrade -y -q --releasever=latest']);
    expect(await patch()).toBe(0);
    expect(await instance.callsOf('dnf')).toHaveLength(1);
    // The next patch upgrades again.
    expect(await patch()).toBe(194);
  });

  test.each(['before', 'after'])('fails while another manager is away %s the restart', async (when) => {
    await lead(other('Reachable'));
    if (when === 'after') expect(await patch()).toBe(194);
    await lead(other('Unreachable'));
    expect(await patch()).toBe(1);
    expect(await instance.callsOf('dnf')).toHaveLength(when === 'after' ? 1 : 0);
  });

  test('fails without a quorum', async () => {
    await lead(other('Reachable'));
    const state = await instance.standIns.read<object>('docker.json');
    await instance.standIns.write('docker.json', { ...state, hasNoLeader: true });
    expect(await patch()).toBe(1);
  });
});

// stack/swarm/retire.sh itself is tested on a Swarm.
describe('retire.sh', () => {
  test('releases a drained frontend with its disk', async () => {
    await lead(node('frontend-0d1', 'ready', 'frontend'));
    await instance.keep('credentials', 'operator=secret');
    await instance.keep('release', 'registry version dashboard.example.com');
    // Long enough for one heartbeat.
    await instance.replace(
      'retire.sh',
      'echo "$DASHBOARD_HOST $(cat "$TURNOUT_CREDENTIALS")" >"$STAND_INS/seen"; until grep -q heartbeat "$STAND_INS/calls"; do sleep 0.05; done',
    );
    await instance.run('retire.sh', ['i-0d1']);
    const seen = await readFile(join(instance.standIns.state, 'seen'), 'utf8');
    expect(seen).toBe('dashboard.example.com operator=secret\n');
    const calls = await instance.standIns.calls();
    const order = [
      'retire.sh id-frontend-0d1',
      'aws ec2 modify-instance-attribute',
      'aws autoscaling complete-lifecycle-action',
    ];
    const places = order.map((start) => calls.findIndex((call) => call.startsWith(start)));
    expect(places).toEqual(places.toSorted((a, b) => a - b));
    expect(places).not.toContain(-1);
    expect(calls.find((call) => call.includes('modify-instance-attribute'))).toContain(
      '"DeleteOnTermination":true',
    );
  });

  test('keeps and does not release a frontend that could not be drained', async () => {
    await lead(node('frontend-0d1', 'ready', 'frontend'));
    await instance.replace('retire.sh', 'echo "the queue is not empty" >&2; exit 1');
    expect(await instance.failureOf('retire.sh', 'i-0d1')).toContain('the queue is not empty');
    expect(await instance.callsOf('aws ec2 modify')).toEqual([]);
    expect(await instance.callsOf('aws autoscaling complete')).toEqual([]);
  });

  test('drains the ready node when a restart left two of its name', async () => {
    const former = { ...node('frontend-0d1', 'down', 'frontend'), ID: 'former' };
    await lead(former, node('frontend-0d1', 'ready', 'frontend'));
    await instance.keep('credentials', 'operator=secret');
    await instance.replace('retire.sh');
    await instance.run('retire.sh', ['i-0d1']);
    expect(await instance.callsOf('retire.sh')).toEqual(['retire.sh id-frontend-0d1']);
  });

  test('releases nothing while the engine does not respond', async () => {
    await lead(node('frontend-0d1', 'ready', 'frontend'));
    const state = await instance.standIns.read<object>('docker.json');
    await instance.standIns.write('docker.json', { ...state, hasNoLeader: true });
    expect(await instance.failureOf('retire.sh', 'i-0d1')).toContain('does not have a leader');
    expect(await instance.callsOf('aws autoscaling complete')).toEqual([]);
  });

  test('keeps the disk of a frontend that never joined, and releases the instance', async () => {
    await lead();
    await instance.replace('retire.sh', 'exit 1');
    await instance.run('retire.sh', ['i-0d7']);
    expect(await instance.callsOf('retire.sh')).toEqual([]);
    expect(await instance.callsOf('aws ec2 modify')).toEqual([]);
    expect(await instance.callsOf('aws autoscaling complete')).toHaveLength(1);
  });
});
