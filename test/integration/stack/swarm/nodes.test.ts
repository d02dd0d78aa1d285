import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { scratchFolder } from '#kit/process.ts';
import { placeStandIns, type StandIns } from '#kit/stand-ins.ts';

/** Scripts that change nodes, with a stand-in for Docker: what they decide, not what Swarm does. */
const RUN_MS_MAX = 40_000;

interface Node {
  readonly Spec: { readonly Labels: Readonly<Record<string, string>> };
  readonly Description: { readonly Hostname: string };
}

let scratch: Awaited<ReturnType<typeof scratchFolder>>;
let standIns: StandIns;
/** Settings of the operator. */
let more: Record<string, string>;

const node = (name: string, role: string, declared = role, state = 'ready') => ({
  ID: `id-${name}`,
  Status: { State: state, Addr: '10.0.0.1' },
  Spec: { Role: 'worker', Labels: role ? { role } : {} },
  Description: { Hostname: name, Engine: { Labels: { role: declared } } },
});

const swarmOf = (...nodes: object[]) =>
  standIns.write('docker.json', { isActive: true, isManager: true, nodes });

/** Runs a script; returns whether it succeeded, and its output with errors. */
async function run(script: string, ...args: string[]): Promise<{ succeeded: boolean; said: string }> {
  const options = { env: { ...standIns.env, ...more }, timeout: RUN_MS_MAX };
  return promisify(execFile)('bash', [join(ROOT, 'stack/swarm', script), ...args], options).then(
    ({ stdout, stderr }) => ({ succeeded: true, said: stdout + stderr }),
    ({ stdout, stderr }: { stdout: string; stderr: string }) => ({ succeeded: false, said: stdout + stderr }),
  );
}

const roles = async (): Promise<Record<string, string | undefined>> => {
  const { nodes } = await standIns.read<{ nodes: Node[] }>('docker.json');
  return Object.fromEntries(
    nodes.map(({ Description, Spec }) => [Description.Hostname, Spec.Labels['role']]),
  );
};

beforeEach(async () => {
  scratch = await scratchFolder();
  more = {};
  standIns = await placeStandIns(scratch.path, ['docker']);
});

afterEach(() => scratch.remove());

describe('label.sh', () => {
  test.each(['ready', 'down'])('refuses a second store while the first is %s', async (state) => {
    await swarmOf(node('a', 'store', 'store', state), node('b', 'worker'));
    const { succeeded, said } = await run('label.sh', 'b', 'store');
    expect(succeeded).toBe(false);
    expect(said).toContain('a already is the store');
    expect(await roles()).toEqual({ a: 'store', b: 'worker' });
  });

  test('labels all others when a second node declares to be the store, and fails', async () => {
    await swarmOf(node('a', 'store'), node('b', '', 'store'), node('c', '', 'frontend'));
    const { succeeded, said } = await run('label.sh');
    expect(succeeded).toBe(false);
    expect(said).toContain('there may be one store only');
    expect(await roles()).toEqual({ a: 'store', b: undefined, c: 'frontend' });
  });

  test('labels the first store, and only one of two that come at once', async () => {
    await swarmOf(node('a', '', 'store'), node('b', '', 'store'));
    expect((await run('label.sh')).succeeded).toBe(false);
    expect(await roles()).toEqual({ a: 'store', b: undefined });
  });

  test('changes nothing when the store is labeled again', async () => {
    await swarmOf(node('a', 'store'));
    expect(await run('label.sh', 'a', 'store')).toEqual({ succeeded: true, said: '' });
    expect(await run('label.sh')).toEqual({ succeeded: true, said: '' });
  });
});

describe('several stacks', () => {
  const SECOND = { TURNOUT_STACK: 'second', TURNOUT_ROLE_LABEL: 'role-second' };

  test('have a label of their own on their nodes', async () => {
    await swarmOf(node('a', 'store'), node('b', ''));
    Object.assign(more, SECOND);
    await run('label.sh', 'b', 'store');
    const { nodes } = await standIns.read<{ nodes: Node[] }>('docker.json');
    expect(nodes.map(({ Spec }) => Spec.Labels)).toEqual([{ role: 'store' }, { 'role-second': 'store' }]);
  });

  test.each([
    ['', false],
    ['first', false],
    ['second', true],
  ])('need a service cluster each: "%s"', async (cluster, isAllowed) => {
    const labels = { 'com.docker.stack.namespace': 'turnout', 'com.docker.lb.service_cluster': cluster };
    await standIns.write('docker.json', {
      isActive: true,
      isManager: true,
      nodes: [node('a', '')],
      proxies: [labels],
    });
    Object.assign(more, SECOND, { SERVICE_CLUSTER: isAllowed ? 'third' : cluster });
    const { said } = await run('deploy.sh');
    expect(said.includes('already has the proxy of the service cluster')).toBe(!isAllowed);
    const deployed = (await standIns.calls()).some((call) => call.startsWith('docker stack deploy'));
    expect(deployed).toBe(isAllowed);
  });

  test('do not stop an update of the stack that has the proxy', async () => {
    const labels = { 'com.docker.stack.namespace': 'turnout', 'com.docker.lb.service_cluster': '' };
    await standIns.write('docker.json', { isActive: true, isManager: true, nodes: [], proxies: [labels] });
    await run('deploy.sh');
    expect((await standIns.calls()).some((call) => call.startsWith('docker stack deploy'))).toBe(true);
  });
});

describe('deploy.sh', () => {
  test('refuses to deploy with two stores, and names them', async () => {
    await swarmOf(node('a', 'store'), node('b', 'store'), node('c', 'frontend'));
    const { succeeded, said } = await run('deploy.sh');
    expect(succeeded).toBe(false);
    expect(said).toContain('only one node may have role=store');
    expect(said).toContain('a, b');
    expect((await standIns.calls()).filter((call) => call.startsWith('docker stack'))).toEqual([]);
  });
});
