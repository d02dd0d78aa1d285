import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { haproxyIsMissing, service } from '#kit/haproxy.ts';
import { until } from '#kit/until.ts';
import { ONLY_200, startLoad, useInterlock } from './fixture.ts';
import { untilRouted } from './interlock.ts';

describe.skipIf(haproxyIsMissing)('an outage or restart', () => {
  const at = useInterlock();

  test.each(['status', 'nonsense', 'silence', 'gone'] as const)(
    'to a Docker that does not respond (%s) keeps the routes, is logged once, and recovers',
    async (failure) => {
      if (failure === 'gone') await at.interlock.docker.pause();
      else at.interlock.docker.failure = failure;
      at.interlock.docker.announce();
      await until('the controller notices', () => at.interlock.readiness.faults['docker'] !== undefined);
      await until('the controller notices again', async () => {
        const count = await at.metric('turnout_interlock_faults_total', { peer: 'docker' });
        return count !== undefined && count > 1;
      });
      await untilRouted(at.interlock, 'vote.test');
      expect(at.logged('services not readable, routes unchanged')).toBe(1);
      if (failure === 'gone') await at.interlock.docker.resume();
      at.interlock.docker.failure = undefined;
      await at.interlock.deploy(service('late', { hosts: 'late.test', port: at.port }), ['127.0.5.40']);
      await untilRouted(at.interlock, 'late.test');
      expect(at.interlock.readiness.isReady).toBe(true);
    },
  );

  test('to a silent name server removes no task', async () => {
    at.interlock.dns.isSilent = true;
    // Several queries with their retries.
    await until('queries go unanswered', () => at.interlock.dns.unanswered >= 10);
    const load = await startLoad(at.interlock.haproxy.port, 'vote.test');
    await until('requests were answered', () => load.answered() > 100);
    expect(await load.stop()).toEqual(ONLY_200);
  });

  test('of the controller changes nothing, even if it stopped during a reload', async () => {
    await at.interlock.restart();
    await until('the controller is ready', () => at.interlock.readiness.isReady);
    expect(await at.metric('turnout_interlock_reloads_total', { outcome: 'accepted' })).toBe(0);
    await at.interlock.stopController();
    const routes = join(at.interlock.haproxy.folder, 'conf.d/routes.cfg');
    const good = await readFile(routes, 'utf8');
    await writeFile(routes, `${good}\nnonsense\n`);
    await at.interlock.restart();
    await until('the good routes are restored', async () => (await readFile(routes, 'utf8')) === good);
    await at.interlock.haproxy.stop();
    await at.interlock.haproxy.start();
    await untilRouted(at.interlock, 'vote.test');
  });

  test('of the proxy keeps the routes, even while Docker is down', async () => {
    await at.interlock.docker.pause();
    await at.interlock.haproxy.stop('SIGKILL');
    await until('the controller notices', () => at.interlock.readiness.faults['proxy'] !== undefined);
    await at.interlock.haproxy.start();
    await untilRouted(at.interlock, 'vote.test');
    await until('the controller notices', () => at.interlock.readiness.faults['proxy'] === undefined);
    expect(at.logged('proxy down')).toBe(1);
    await at.interlock.docker.resume();
  });
});
