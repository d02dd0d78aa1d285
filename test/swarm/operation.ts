import { expect, test } from 'vitest';
import type { Cluster } from '#dev/cluster/cluster.ts';
import type { Engine } from '#dev/cluster/engine.ts';
import { until } from '#kit/until.ts';
import { compare, readAudit, untilCounted } from './system.ts';
import { untilAccepts, votersOf } from './voting.ts';

const RETIRE_MS_MAX = 4 * 60_000;
const REROUTE_MS_MAX = 120_000;

/** Returns the services, running tasks and secrets of the Swarm, sorted. */
async function listStack(manager: Engine): Promise<string[][]> {
  const secrets = (await manager.docker('secret', 'ls', '--quiet')).split('\n').filter(Boolean);
  const outputs = [
    await manager.docker('service', 'ls', '--format', '{{.ID}} {{.Name}} {{.Replicas}} {{.Image}}'),
    await manager.docker('stack', 'ps', '--quiet', '--filter', 'desired-state=running', 'turnout'),
    await manager.docker(
      'secret',
      'inspect',
      '--format',
      '{{.ID}} {{.Spec.Name}} {{.UpdatedAt}}',
      ...secrets,
    ),
  ];
  return outputs.map((output) => output.split('\n').toSorted());
}

/** The scripts of `stack/swarm` on a running system. */
export function testOperation(cluster: Cluster): void {
  test('changes nothing when any script runs again', async () => {
    const { manager } = cluster;
    const before = await listStack(manager);

    expect(await manager.script('install-docker.sh')).toContain('runs');
    expect(await manager.script('init.sh', ['--advertise', manager.node.address])).toContain('already');
    const worker = cluster.engine('worker01');
    const input = await manager.script('token.sh', ['worker']);
    const join = ['--manager', manager.node.address, '--advertise', worker.node.address];
    expect(await worker.script('join.sh', join, { input })).toContain('already');
    expect(await manager.script('label.sh')).toBe('');
    expect(await manager.script('secrets.sh', [], { env: cluster.settings })).not.toContain('Created');
    await cluster.deploy();

    expect(await listStack(manager)).toEqual(before);
  });

  test('retires a frontend under load without losing a vote, and takes it back', async () => {
    const { manager } = cluster;
    const voters = votersOf(cluster, 8).start();
    await untilAccepts(voters, 'frontend02');
    const output = await manager.script('retire.sh', ['frontend02'], {
      env: cluster.settings,
      msMax: RETIRE_MS_MAX,
    });
    expect(output).toContain('0 pending');
    const retiredAt = performance.now();
    await until(
      'the other frontends accept votes',
      () => voters.since(retiredAt).length > 100,
      REROUTE_MS_MAX,
    );
    await voters.stop();
    expect(
      voters.sent.filter(({ status }) => status !== 202),
      output,
    ).toEqual([]);
    expect(voters.nodesSince(retiredAt)).not.toContain('frontend02');

    const tasks = await manager.docker(
      'node',
      'ps',
      '--filter',
      'desired-state=running',
      '--quiet',
      'frontend02',
    );
    expect(tasks).toBe('');
    const retired = (await readAudit(cluster)).nodes.find(({ name }) => name === 'frontend02');
    expect(retired).toMatchObject({ pending: 0, state: 'retired' });
    expect((await untilCounted(cluster, voters)).total.lost).toBe(0);
    expect(await compare(cluster, voters)).toEqual([]);

    await manager.script('label.sh', ['frontend02', 'frontend']);
    const again = votersOf(cluster, 4).start();
    await untilAccepts(again, 'frontend02');
    await again.stop();
    await untilCounted(cluster, again);
    expect(await compare(cluster, again)).toEqual([]);
  });
}
