import { expect, test } from 'vitest';
import type { Cluster } from '#dev/cluster/cluster.ts';
import type { Engine } from '#dev/cluster/engine.ts';
import { Load } from '#kit/open-loop.ts';
import { median } from '#kit/quantile.ts';
import { containerOf, untilCounted, VOTE_HOST } from './system.ts';

/** So little that this machine can offer three times what the handlers can take, and still have time for the proxy. */
const VOTE_CPUS = '0.05';
/** As stack/turnout.yml has it. */
const VOTE_CPUS_BEFORE = '2';
const PEAK_CLIENTS = 300;
const PHASE_MS = 10_000;
const OVERLOAD = 3;
const GOODPUT_SHARE_MIN = 0.9;
/** A refusal may take this much longer than the proxy's word that it knows no such site, which asks nobody. */
const REFUSAL_MS_MEDIAN_MAX = 50;
const STRANGERS_PER_SECOND = 50;
/** A proxy that needs longer than this for its own word before anybody votes lacks a processor itself: others have it. */
const QUIET_MS_MEDIAN_MAX = 5;

/** Gives a frontend's handler so much of a processor from now on, without a restart. */
async function limitVote(engine: Engine, cpus: string): Promise<void> {
  await engine.docker('update', '--cpus', cpus, await containerOf(engine, 'vote'));
}

/** The processor is what the handlers lack here; `test/e2e/overload.test.ts` has the same with a slow disk. */
export function testOverload(cluster: Cluster): void {
  test('offered three times what the handlers’ processors can take, the proxy refuses the rest at once', async ({
    skip,
  }) => {
    const frontends = cluster.engines('frontend');
    const address = { host: cluster.proxyAddress, port: 80 };
    const load = new Load(address, VOTE_HOST);
    const strangers = new Load(address, 'nobody.local');
    try {
      const before = await strangers.offer(STRANGERS_PER_SECOND, PHASE_MS / 5);
      const atRest = median(before.outcomes.map(({ ms }) => ms));
      // V8 compiles what is hot while there is time for it.
      await load.measurePeak(PEAK_CLIENTS, PHASE_MS / 2);
      for (const engine of frontends) await limitVote(engine, VOTE_CPUS);
      const peak = await load.measurePeak(PEAK_CLIENTS, PHASE_MS);
      // Both are sent by this process at the same time, so what it and the machine add to an answer is in both.
      const [{ outcomes, seconds, acceptedInTime }, unknown] = await Promise.all([
        load.offer(OVERLOAD * peak, PHASE_MS),
        strangers.offer(STRANGERS_PER_SECOND, PHASE_MS),
      ]);

      const accepted = outcomes.filter(({ status }) => status === 202);
      const refused = outcomes.filter(({ status }) => status === 503).map(({ ms }) => ms);
      expect(new Set(unknown.outcomes.map(({ status }) => status))).toEqual(new Set([404]));
      const atOnce = median(unknown.outcomes.map(({ ms }) => ms));
      const statuses = Map.groupBy(outcomes, ({ status, fault }) => fault ?? status);
      const told = [
        `peak ${peak.toFixed(0)}/s, offered ${(outcomes.length / seconds).toFixed(0)}/s`,
        `accepted ${(acceptedInTime / seconds).toFixed(0)}/s in ${median(accepted.map(({ ms }) => ms)).toFixed(0)} ms`,
        `refused in ${median(refused).toFixed(0)} ms, unknown sites in ${atOnce.toFixed(0)} ms, at rest in ${atRest.toFixed(0)} ms (medians)`,
        `statuses ${[...statuses].map(([status, { length }]) => `${status}: ${length}`).join(', ')}`,
      ];
      console.log(told.join('; '));
      const isQuiet = atRest <= QUIET_MS_MEDIAN_MAX;
      if (isQuiet) {
        expect(accepted.length + refused.length).toBe(outcomes.length);
        expect(outcomes.length / seconds / peak).toBeGreaterThan(0.8 * OVERLOAD);
        expect(acceptedInTime / seconds / peak).toBeGreaterThan(GOODPUT_SHARE_MIN);
        expect(median(refused) - atOnce).toBeLessThan(REFUSAL_MS_MEDIAN_MAX);
      }
      expect((await load.castVote()).status).toBe(202);
      // Nobody was killed for being busy.
      for (const engine of frontends) await containerOf(engine, 'vote');
      expect((await untilCounted(cluster)).total.lost).toBe(0);
      skip(!isQuiet, 'others use so much of this machine that it says nothing about the handlers');
    } finally {
      load.close();
      strangers.close();
      // One that was replaced has no such limit.
      await Promise.allSettled(frontends.map((engine) => limitVote(engine, VOTE_CPUS_BEFORE)));
    }
  });
}
