import { expect, test } from 'vitest';
import type { Cluster } from '#dev/cluster/cluster.ts';
import { nodeOf } from '#job';
import { until } from '#kit/until.ts';
import {
  askProxy,
  basicAuth,
  compare,
  containerOf,
  credential,
  POLL,
  RESULTS_HOST,
  untilCounted,
  VOTE_HOST,
} from './system.ts';
import { Voters } from './voters.ts';

const SPREAD_MS_MAX = 60_000;
const ACCEPT_MS_MAX = 120_000;

/** Returns voters who vote through the proxy of the cluster. */
export function votersOf(cluster: Cluster, people: number, poll = POLL): Voters {
  const voterKey = credential(cluster, 'voter_key');
  return new Voters({ address: cluster.proxyAddress, host: VOTE_HOST, poll, voterKey, people });
}

/** Waits until a node has accepted a vote of these voters. */
export async function untilAccepts(voters: Voters, node: string): Promise<void> {
  await until(`${node} accepts votes`, () => voters.nodesSince(0).has(node), ACCEPT_MS_MAX);
}

/** The system without faults. */
export function testVoting(cluster: Cluster): void {
  test('captures votes on every frontend in its own Redis, and counts all of them', async () => {
    const voters = votersOf(cluster, 8).start();
    const frontends = cluster.engines('frontend').map(({ node }) => node.name);
    await until(
      'every frontend accepts votes',
      () => voters.nodesSince(0).size === frontends.length && voters.sent.length > 300,
      SPREAD_MS_MAX,
    );
    await voters.stop();
    expect(voters.sent.filter(({ status }) => status !== 202)).toEqual([]);

    for (const engine of cluster.engines('frontend')) {
      const redis = await containerOf(engine, 'redis');
      const password = credential(cluster, 'redis_worker');
      const cli = ['redis-cli', '-s', '/run/redis/redis.sock', '--user', 'worker', '--pass', password];
      const ledger = await engine.docker(
        'exec',
        redis,
        ...cli,
        '--no-auth-warning',
        'hgetall',
        'turnout:ledger',
      );
      const sources = ledger.split('\n').filter((_, index) => index % 2 === 0);
      expect(sources.length).toBeGreaterThan(0);
      for (const source of sources) expect(nodeOf(source).name).toBe(engine.node.name);
    }
    const { total } = await untilCounted(cluster, voters);
    expect(total.lost).toBe(0);
    expect(await compare(cluster, voters)).toEqual([]);
    await until('the results show the count', async () => {
      const { body } = await askProxy(cluster, RESULTS_HOST, `/polls/${POLL}/results`);
      return JSON.parse(body).total === total.counted;
    });
  });

  test('routes pages and dashboard by host name, the dashboard with a password', async () => {
    const page = await askProxy(cluster, VOTE_HOST, '/', { headers: { accept: 'text/html' } });
    expect(page.status).toBe(200);
    expect(page.body).toContain('Cats or dogs?');
    expect((await askProxy(cluster, RESULTS_HOST, '/')).status).toBe(200);
    expect((await askProxy(cluster, 'dashboard.votingapp.local', '/')).status).toBe(401);
    const headers = basicAuth(cluster, 'operator');
    expect((await askProxy(cluster, 'dashboard.votingapp.local', '/', { headers })).status).toBe(200);
    expect((await askProxy(cluster, 'dashboard.votingapp.local', '/queues', { headers })).status).toBe(200);
  });
}
