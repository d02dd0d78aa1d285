import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { Cluster } from '#dev/cluster/cluster.ts';
import { until } from '#kit/until.ts';
import { compare, containerOf, readLedger, untilCounted } from './system.ts';
import type { Sent, Voters } from './voters.ts';
import { votersOf } from './voting.ts';

const CHANGE_MS_MAX = 120_000;
/** How soon a node that has gone must not be asked any more. */
const LEAVE_MS_MAX = 2_000;

const faults = (sent: readonly Sent[]): Sent[] => sent.filter(({ status }) => status !== 202);

/** Waits until so many more votes have been answered, so that what follows is not judged by silence. */
async function untilMore(voters: Voters, votes: number): Promise<void> {
  const from = voters.sent.length;
  await until(`${votes} more answers`, () => voters.sent.length >= from + votes, CHANGE_MS_MAX);
}

/** Both return when the tasks run, which Docker watches for some seconds. */
const scale = (cluster: Cluster, change: string) => cluster.manager.dockerUpdate('service', 'scale', change);
const updateVote = (cluster: Cluster) =>
  cluster.manager.dockerUpdate('service', 'update', '--force', '--quiet', 'turnout_vote');

/** Growing, changing and losing parts while people vote. */
export function testChange(cluster: Cluster): void {
  test('an update of the handlers under load fails no request', async () => {
    const voters = votersOf(cluster, 8).start();
    await untilMore(voters, 100);
    await updateVote(cluster);
    await untilMore(voters, 100);
    await voters.stop();
    expect(faults(voters.sent)).toEqual([]);
    await untilCounted(cluster, voters);
    expect(await compare(cluster, voters)).toEqual([]);
  });

  test('a frontend that joins while people vote takes its share, and nobody touches the proxy', async () => {
    const interlock = cluster.engine('interlock');
    const proxyBefore = await containerOf(interlock, 'proxy');
    const voters = votersOf(cluster, 8).start();
    const { node } = await cluster.addNode('frontend');
    await until(`${node.name} takes votes`, () => voters.nodesSince(0).has(node.name), CHANGE_MS_MAX);
    await untilMore(voters, 200);
    await voters.stop();
    expect(faults(voters.sent)).toEqual([]);
    expect(await containerOf(interlock, 'proxy')).toBe(proxyBefore);
    const share = voters.sent.slice(-200).filter((vote) => vote.node === node.name).length;
    expect(share).toBeGreaterThan(30);
    await untilCounted(cluster, voters);
    expect(await compare(cluster, voters)).toEqual([]);
  });

  test('workers can be added and taken away while people vote', async () => {
    const voters = votersOf(cluster, 4).start();
    for (const count of [3, 1]) {
      await scale(cluster, `turnout_worker=${count}`);
      await untilMore(voters, 100);
    }
    await voters.stop();
    expect(faults(voters.sent)).toEqual([]);
    const { total } = await untilCounted(cluster, voters);
    expect(total.lost).toBe(0);
    expect(await compare(cluster, voters)).toEqual([]);
  });

  test('without the controller and the engine’s API routing goes on, and follows new tasks', async () => {
    const place = (change: 'add' | 'rm') =>
      cluster.manager.docker(
        ...['service', 'update', '--quiet', '--detach'],
        ...[`--constraint-${change}=node.labels.role==nowhere`, 'turnout_interlock'],
      );
    await place('add');
    await scale(cluster, 'turnout_docker-api=0');
    await until(
      'the controller has gone',
      async () =>
        (await containerOf(cluster.engine('interlock'), 'interlock').catch(() => undefined)) === undefined,
      CHANGE_MS_MAX,
    );
    const voters = votersOf(cluster, 8).start();
    await updateVote(cluster);
    await untilMore(voters, 100);
    await voters.stop();
    expect(faults(voters.sent)).toEqual([]);
    await place('rm');
    await scale(cluster, 'turnout_docker-api=1');
    await until(
      'the controller is back',
      () => containerOf(cluster.engine('interlock'), 'interlock'),
      CHANGE_MS_MAX,
    );
  });
}

/** Losing machines while people vote. */
export function testLoss(cluster: Cluster): void {
  test('a frontend that is cut off is left within two seconds, and its votes are counted when it is back', async () => {
    // Nobody drains, so that the node goes with votes that only its own Redis has.
    await scale(cluster, 'turnout_worker=0');
    const voters = votersOf(cluster, 8).start();
    await until('it takes votes', () => voters.nodesSince(0).has('frontend01'), CHANGE_MS_MAX);
    await untilMore(voters, 200);

    const cutAt = performance.now();
    await cluster.setLink('frontend01', 'down');
    await sleep(LEAVE_MS_MAX);
    const leftAt = performance.now();
    await untilMore(voters, 300);
    await voters.stop();
    // Asked in time to know better: whoever voted from here on had to notice nothing.
    expect(faults(voters.since(leftAt))).toEqual([]);
    expect(voters.nodesSince(leftAt)).not.toContain('frontend01');
    expect(faults(voters.sent).every(({ startedAt }) => startedAt >= cutAt - 5_000)).toBe(true);

    await scale(cluster, 'turnout_worker=1');
    const cut = await until(
      'all others are counted',
      async () => {
        const { nodes } = await readLedger(cluster);
        const mine = nodes.find(({ node }) => node === 'frontend01');
        return nodes.every(({ node, pending }) => node === 'frontend01' || pending === 0) && mine;
      },
      CHANGE_MS_MAX,
    );
    expect(cut.lost).toBe(0);

    await cluster.setLink('frontend01', 'up');
    const { total } = await untilCounted(cluster, voters);
    expect(total.lost).toBe(0);
    expect(await compare(cluster, voters)).toEqual([]);
  });

  test('a frontend whose power goes is left within two seconds, and loses no vote that was answered', async () => {
    const engine = cluster.engine('frontend02');
    await scale(cluster, 'turnout_worker=0');
    const voters = votersOf(cluster, 8).start();
    await until('it takes votes', () => voters.nodesSince(0).has('frontend02'), CHANGE_MS_MAX);
    await untilMore(voters, 200);
    await engine.kill();
    await sleep(LEAVE_MS_MAX);
    const leftAt = performance.now();
    await untilMore(voters, 300);
    await voters.stop();
    expect(faults(voters.since(leftAt))).toEqual([]);

    await engine.start();
    await scale(cluster, 'turnout_worker=1');
    const { total } = await untilCounted(cluster, voters);
    expect(total.lost).toBe(0);
    expect(await compare(cluster, voters)).toEqual([]);

    const again = votersOf(cluster, 4).start();
    await until('it takes votes again', () => again.nodesSince(0).has('frontend02'), CHANGE_MS_MAX);
    await again.stop();
  });
}
