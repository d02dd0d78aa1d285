import { mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Cluster } from '#dev/cluster/cluster.ts';
import type { Engine } from '#dev/cluster/engine.ts';
import { namespacePath } from '#dev/cluster/folders.ts';
import { HOST_ADDRESS, type Role } from '#dev/cluster/topology.ts';
import { run } from '#dev/exec.ts';
import { ROOT } from '#dev/root.ts';
import { scratchFolder } from '#kit/process.ts';
import { placeStandIns, type StandIns, serveMetadata } from '#kit/stand-ins.ts';
import { until } from '#kit/until.ts';

const SCRIPTS = join(ROOT, 'aws');
const SCRIPT_MS_MAX = 60_000;
const DOWN_MS_MAX = 60_000;

/** Matches an error whose details contain a text. */
const withDetail = (text: string) => ({ details: expect.arrayContaining([expect.stringContaining(text)]) });

/** A machine of the cluster with stand-ins for AWS; its engine and the Swarm are real. */
interface Instance {
  readonly engine: Engine;
  readonly standIns: StandIns;
  /** Runs a script of `aws/` as on the instance, and returns its output. */
  script(name: string): Promise<string>;
  close(): Promise<void>;
}

/**
 * Boots a machine of the cluster as an EC2 instance.
 *
 * @param parameters folder of the Systems Manager parameters that all instances share
 */
async function boot(
  cluster: Cluster,
  parameters: string,
  role: Role,
  id: string,
  address: string,
): Promise<Instance> {
  const name = `${role}-${id}`;
  const folder = await scratchFolder();
  const standIns = await placeStandIns(folder.path, ['aws']);
  await rm(join(standIns.state, 'parameters'), { recursive: true });
  await symlink(parameters, join(standIns.state, 'parameters'));
  const root = standIns.env['TURNOUT_HOST_ROOT'] ?? '';
  for (const path of ['dev/disk/by-id', 'etc/systemd/system']) {
    await mkdir(join(root, path), { recursive: true });
  }
  const lines = ['AWS_DEFAULT_REGION=us-east-1', 'STACK=turnout', 'BUCKET=bucket', `ROLE=${role}`, ''];
  await writeFile(standIns.env['TURNOUT_ENV'] ?? '', lines.join('\n'));
  const facts = {
    'instance-id': `i-${id}`,
    'local-ipv4': address,
    'placement/availability-zone': 'us-east-1a',
  };
  const metadata = await serveMetadata(facts, HOST_ADDRESS);
  const engine = await cluster.startStandaloneNode({ name, role, address });
  return {
    engine,
    standIns,
    script: async (script) => {
      const env = { ...standIns.env, TURNOUT_METADATA: metadata.url, DOCKER_HOST: engine.dockerHost };
      return run(
        { command: 'nsenter', args: [`--net=${namespacePath(name)}`, 'bash', join(SCRIPTS, script)] },
        { what: `${script} on ${name}`, msMax: SCRIPT_MS_MAX, env },
      );
    },
    close: async () => {
      await engine.kill();
      metadata.close();
      await folder.remove();
    },
  };
}

/** Returns the nodes of the Swarm as `<host name>=<manager status>`, sorted. */
async function listNodes(manager: Engine): Promise<string[]> {
  const format = '{{.Hostname}}={{.ManagerStatus}}';
  return (await manager.docker('node', 'ls', '--format', format)).split('\n').toSorted();
}

/** Returns a field of a node, given as a Go template. */
const inspect = (manager: Engine, node: string, field: string): Promise<string> =>
  manager.docker('node', 'inspect', '--format', field, node);

/** Makes three instances join one Swarm: two managers and a frontend. */
async function formSwarm(first: Instance, second: Instance, frontend: Instance): Promise<void> {
  await first.standIns.write(join('parameters', encodeURIComponent('/turnout/turnout/managers')), {
    type: 'String',
    value: '192.168.33.101 192.168.33.102',
  });

  // Before the first manager has published a token, the scripts fail; systemd retries.
  await expect(frontend.script('node.sh')).rejects.toMatchObject(
    withDetail('no manager accepts this node yet'),
  );
  await expect(second.script('node.sh')).rejects.toMatchObject(
    withDetail('no manager accepts this manager yet'),
  );

  expect(await first.script('node.sh')).toContain('Created a Swarm');
  expect(await second.script('node.sh')).toContain('Joined the Swarm');
  expect(await frontend.script('node.sh')).toContain('This is frontend-0f1, at 192.168.33.103.');
  expect(await listNodes(first.engine)).toEqual([
    'frontend-0f1=',
    'manager-0a1=Leader',
    'manager-0a2=Reachable',
  ]);
}

/** Kills the frontend's machine. `reconcile-nodes.sh` removes it once it is terminated in EC2, not while it is stopped. */
async function terminate(first: Instance, frontend: Instance): Promise<void> {
  await frontend.engine.kill();
  await until(
    'the Swarm reports the frontend as down',
    async () => (await inspect(first.engine, 'frontend-0f1', '{{.Status.State}}')) === 'down',
    DOWN_MS_MAX,
  );
  const instance = (id: string, state = 'running') => ({ id, state, role: 'any' });
  const managers = [instance('i-0a1'), instance('i-0a2')];
  await first.standIns.write('aws.json', { instances: [...managers, instance('i-0f1', 'stopped')] });
  expect(await first.script('reconcile-nodes.sh')).toBe('');
  await first.standIns.write('aws.json', { instances: managers });
  expect(await first.script('reconcile-nodes.sh')).toContain('Removed frontend-0f1.');
  expect(await listNodes(first.engine)).toHaveLength(2);
}

/** The boot scripts of AWS instances, on machines of the cluster that are not in a Swarm yet. */
export function testAws(cluster: Cluster): void {
  test('instances form a Swarm, get their roles, and are removed after termination', async () => {
    const parameters = await scratchFolder();
    const instances: Instance[] = [];
    const add = async (role: Role, id: string, address: string): Promise<Instance> => {
      const instance = await boot(cluster, parameters.path, role, id, address);
      instances.push(instance);
      return instance;
    };
    try {
      const first = await add('manager', '0a1', '192.168.33.101');
      const second = await add('manager', '0a2', '192.168.33.102');
      const frontend = await add('frontend', '0f1', '192.168.33.103');
      await formSwarm(first, second, frontend);

      // A further boot changes nothing.
      for (const instance of instances) {
        expect(await instance.script('node.sh')).not.toMatch(/Created|Joined|Wrote/);
      }
      expect(await listNodes(first.engine)).toHaveLength(3);

      expect(await second.script('reconcile-nodes.sh')).toBe('');
      expect(await first.script('reconcile-nodes.sh')).toContain('frontend-0f1 is now frontend.');
      expect(await inspect(first.engine, 'frontend-0f1', '{{index .Spec.Labels "role"}}')).toBe('frontend');

      await terminate(first, frontend);
    } finally {
      for (const instance of instances) await instance.close();
      await parameters.remove();
    }
  });
}
