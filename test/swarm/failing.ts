import { expect, test } from 'vitest';
import type { Cluster } from '#dev/cluster/cluster.ts';
import { until } from '#kit/until.ts';
import { askReceipt, compare, containerOf, query, readAudit, untilCounted } from './system.ts';
import type { Sent, Voters } from './voters.ts';
import { untilAccepts, votersOf } from './voting.ts';

const CHANGE_MS_MAX = 120_000;
/** From a 202 to the count while a worker drains, on a loaded machine. */
const COUNTED_MS_MAX = 15_000;
/** The longest time in which the proxy may still send requests to a dead node. */
const LEAVE_MS_MAX = 2_000;

const refused = (sent: readonly Sent[]): Sent[] => sent.filter(({ status }) => status !== 202);

/** Waits until this many more votes have a response, so that an assertion covers real traffic. */
async function untilMore(voters: Voters, votes: number): Promise<void> {
  const from = voters.sent.length;
  await until(`${votes} more responses`, () => voters.sent.length >= from + votes, CHANGE_MS_MAX);
}

/**
 * Waits for 300 votes sent after the proxy's deadline to leave a dead node, and stops the voters. All of these votes must be
 * accepted, by other nodes.
 *
 * @returns the deadline
 */
async function stopAfterDeadline(voters: Voters): Promise<number> {
  const leftAt = performance.now() + LEAVE_MS_MAX;
  await until('300 votes after the deadline', () => voters.since(leftAt).length >= 300, CHANGE_MS_MAX);
  await voters.stop();
  expect(refused(voters.since(leftAt))).toEqual([]);
  return leftAt;
}

/** Waits until a vote that is accepted from now on is counted, which needs a worker that drains. */
async function untilVoteCounted(cluster: Cluster, voters: Voters): Promise<void> {
  const from = voters.sent.length;
  const { receipt } = await until(
    'a vote is accepted',
    () => voters.sent.slice(from).find((sent) => sent.receipt !== undefined),
    COUNTED_MS_MAX,
  );
  await until(
    'it is counted',
    async () => (await askReceipt(cluster, receipt ?? '')) === 'counted',
    COUNTED_MS_MAX,
  );
}

/** Both resolve once the tasks run and have stayed up for Docker's monitoring period. */
const scale = (cluster: Cluster, change: string) => cluster.manager.dockerUpdate('service', 'scale', change);
const updateVote = (cluster: Cluster) =>
  cluster.manager.dockerUpdate('service', 'update', '--force', '--quiet', 'turnout_vote');

/** Growth, updates and missing parts under load. */
export function testChange(cluster: Cluster): void {
  test('updates the handlers under load without failing a request', async () => {
    const voters = votersOf(cluster, 8).start();
    await untilMore(voters, 100);
    await updateVote(cluster);
    await untilMore(voters, 100);
    await voters.stop();
    expect(refused(voters.sent)).toEqual([]);
    await untilCounted(cluster, voters);
    expect(await compare(cluster, voters)).toEqual([]);
  });

  test('routes votes to a frontend that joins under load, without restarting the proxy', async () => {
    const interlock = cluster.engine('interlock');
    const proxyBefore = await containerOf(interlock, 'proxy');
    const voters = votersOf(cluster, 8).start();
    const { node } = await cluster.addNode('frontend');
    await untilAccepts(voters, node.name);
    await untilMore(voters, 200);
    await voters.stop();
    expect(refused(voters.sent)).toEqual([]);
    expect(await containerOf(interlock, 'proxy')).toBe(proxyBefore);
    const share = voters.sent.slice(-200).filter((vote) => vote.node === node.name).length;
    expect(share).toBeGreaterThan(30);
    await untilCounted(cluster, voters);
    expect(await compare(cluster, voters)).toEqual([]);
  });

  test('counts every vote while workers are added and removed', async () => {
    const voters = votersOf(cluster, 4).start();
    for (const count of [3, 1]) {
      await scale(cluster, `turnout_worker=${count}`);
      await untilMore(voters, 100);
    }
    await voters.stop();
    expect(refused(voters.sent)).toEqual([]);
    const { total } = await untilCounted(cluster, voters);
    expect(total.lost).toBe(0);
    expect(await compare(cluster, voters)).toEqual([]);
  });

  test('rolls back a release that migrates and then fails, while the drain goes on', async () => {
    const voters = votersOf(cluster, 4).start();
    await untilMore(voters, 100);
    // What the new release's worker would do first.
    await query(cluster, "insert into kysely_migration values ('9999_next', '2030-01-01T00:00:00.000Z')");
    await query(cluster, 'create table next_release (x int)');
    try {
      const failing = ['--args', '--eval process.exit(1)', '--quiet', 'turnout_worker'];
      await cluster.manager.docker('service', 'update', '--detach', ...failing);
      const stateOf = () =>
        cluster.manager.docker('service', 'inspect', '--format', '{{.UpdateStatus.State}}', 'turnout_worker');
      const deadline = performance.now() + CHANGE_MS_MAX;
      while ((await stateOf()) !== 'rollback_completed' && performance.now() < deadline) {
        await untilVoteCounted(cluster, voters);
      }
      expect(await stateOf()).toBe('rollback_completed');

      // The old release starts on the newer schema, too.
      await cluster.manager.dockerUpdate('service', 'update', '--force', '--quiet', 'turnout_worker');
      await untilVoteCounted(cluster, voters);
    } finally {
      await query(cluster, 'drop table next_release');
      await query(cluster, "delete from kysely_migration where name = '9999_next'");
    }
    await voters.stop();
    expect(refused(voters.sent)).toEqual([]);
    const { total } = await untilCounted(cluster, voters);
    expect(total.lost).toBe(0);
    expect(await compare(cluster, voters)).toEqual([]);
  });

  test('keeps routing, and follows new tasks, without the controller and the Docker API', async () => {
    const place = (change: 'add' | 'rm') =>
      cluster.manager.docker(
        ...['service', 'update', '--quiet', '--detach'],
        ...[`--constraint-${change}=node.labels.role==nowhere`, 'turnout_interlock'],
      );
    await place('add');
    await scale(cluster, 'turnout_docker-api=0');
    await until(
      'the controller is gone',
      async () =>
        (await containerOf(cluster.engine('interlock'), 'interlock').catch(() => undefined)) === undefined,
      CHANGE_MS_MAX,
    );
    const voters = votersOf(cluster, 8).start();
    await updateVote(cluster);
    await untilMore(voters, 100);
    await voters.stop();
    expect(refused(voters.sent)).toEqual([]);
    await place('rm');
    await scale(cluster, 'turnout_docker-api=1');
    await until(
      'the controller is back',
      () => containerOf(cluster.engine('interlock'), 'interlock'),
      CHANGE_MS_MAX,
    );
  });
}

/** Lost machines under load. */
export function testLoss(cluster: Cluster): void {
  test('stops routing to a partitioned frontend within two seconds, and counts its votes when it returns', async () => {
    // Without workers the node disappears with votes that only its own Redis has.
    await scale(cluster, 'turnout_worker=0');
    const voters = votersOf(cluster, 8).start();
    await untilAccepts(voters, 'frontend01');
    await untilMore(voters, 200);

    const cutAt = performance.now();
    await cluster.setLink('frontend01', 'down');
    const leftAt = await stopAfterDeadline(voters);
    expect(voters.nodesSince(leftAt)).not.toContain('frontend01');
    expect(refused(voters.sent).every(({ startedAt }) => startedAt >= cutAt - 5_000)).toBe(true);

    await scale(cluster, 'turnout_worker=1');
    const cut = await until(
      'the votes of all other nodes are counted',
      async () => {
        const { nodes } = await readAudit(cluster);
        const mine = nodes.find(({ name }) => name === 'frontend01');
        return nodes.every(({ name, pending }) => name === 'frontend01' || pending === 0) && mine;
      },
      CHANGE_MS_MAX,
    );
    expect(cut.lost).toBe(0);

    await cluster.setLink('frontend01', 'up');
    const { total } = await untilCounted(cluster, voters);
    expect(total.lost).toBe(0);
    expect(await compare(cluster, voters)).toEqual([]);
  });

  test('stops routing to a frontend without power within two seconds, and loses no acknowledged vote', async () => {
    const engine = cluster.engine('frontend02');
    await scale(cluster, 'turnout_worker=0');
    const voters = votersOf(cluster, 8).start();
    await untilAccepts(voters, 'frontend02');
    await untilMore(voters, 200);
    await engine.kill();
    await stopAfterDeadline(voters);

    await engine.start();
    await scale(cluster, 'turnout_worker=1');
    const { total } = await untilCounted(cluster, voters);
    expect(total.lost).toBe(0);
    expect(await compare(cluster, voters)).toEqual([]);

    const again = votersOf(cluster, 4).start();
    await untilAccepts(again, 'frontend02');
    await again.stop();
  });
}
