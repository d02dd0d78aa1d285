import { expect, test } from 'vitest';
import type { Cluster } from '#dev/cluster/cluster.ts';
import type { Engine } from '#dev/cluster/engine.ts';
import { prepareLoad } from '#kit/load/generator.ts';
import type { LoadResult, LoadSpec } from '#kit/load/spec.ts';
import { askProxy, containerOf, POLL, untilCounted, VOTE_HOST } from './system.ts';

/**
 * A twentieth of the limits in stack/turnout.yml, so that this machine can offer three times what the handlers can take, with CPU left
 * for the proxy.
 */
const VOTE_CPUS = '0.1';
export const VOTE_CONNECTIONS_MAX = 26;
const VOTE_CPUS_BEFORE = '2';
const CONNECTIONS_MAX = 1_000;
const PHASE_SECONDS = 10;
const OVERLOAD = 3;
const GOODPUT_SHARE_MIN = 0.9;
/** How much longer a refused vote may take than a 404 for an unknown host, which the proxy answers itself. */
const REFUSAL_MS_MEDIAN_MAX = 50;
const UNKNOWN_HOST = 'unclaimed.local';
const UNKNOWN_PER_SECOND = 50;
/** A proxy that takes longer for a 404 before the load starts lacks CPU because other processes use the machine. */
const QUIET_MS_MEDIAN_MAX = 5;

/** Limits the CPU of a frontend's handler without restarting it. */
async function limitVote(engine: Engine, cpus: string): Promise<void> {
  await engine.docker('update', '--cpus', cpus, await containerOf(engine, 'vote'));
}

/** Here the handlers lack CPU; `test/e2e/overload.test.ts` has the same with a slow disk. */
export function testOverload(cluster: Cluster): void {
  const send = async (
    hostHeader: string,
    load: Pick<LoadSpec, 'connections' | 'seconds' | 'rates'>,
  ): Promise<LoadResult> => {
    const targets = [{ host: cluster.proxyAddress, port: 80, hostHeader }];
    return (await prepareLoad({ targets, kind: 'first', ...load })).run();
  };
  const sendUnknown = (seconds: number): Promise<LoadResult> =>
    send(UNKNOWN_HOST, {
      connections: 20,
      seconds,
      rates: [{ atSeconds: 0, perSecond: UNKNOWN_PER_SECOND }],
    });

  /** Returns the median milliseconds of a response without load, which shows whether other processes use the machine. */
  const measureAtRest = async (): Promise<number> =>
    (await sendUnknown(PHASE_SECONDS / 2)).answers['404']?.latency.p50 ?? Number.NaN;

  /** Returns the votes a second that the handlers accept from as many clients as the proxy lets through. */
  const measureCapacity = async (): Promise<number> => {
    const connections = cluster.engines('frontend').length * VOTE_CONNECTIONS_MAX;
    const { accepted, seconds } = await send(VOTE_HOST, { connections, seconds: PHASE_SECONDS });
    return accepted / seconds;
  };

  /** Sends votes at a rate, whatever the answers. Returns also the votes that were accepted per second until the last answer. */
  const offer = async (perSecond: number, seconds: number): Promise<LoadResult & { goodput: number }> => {
    const rates = [{ atSeconds: 0, perSecond }];
    const result = await send(VOTE_HOST, { connections: CONNECTIONS_MAX, seconds, rates });
    return { ...result, goodput: result.accepted / result.seconds };
  };

  test('at three times the CPU capacity of the handlers, the proxy refuses the rest at once', async ({
    skip,
  }) => {
    const frontends = cluster.engines('frontend');
    try {
      const msBefore = await measureAtRest();
      // V8 compiles the hot functions while it has the CPU for it, and then those for many votes at once.
      await measureCapacity();
      for (const engine of frontends) await limitVote(engine, VOTE_CPUS);
      await measureCapacity();
      const capacity = await measureCapacity();
      const before = await offer(capacity, PHASE_SECONDS);
      // This process sends both at the same time, so its own delays and the machine's are part of both latencies.
      const [votes, unknown] = await Promise.all([
        offer(OVERLOAD * capacity, 2 * PHASE_SECONDS),
        sendUnknown(2 * PHASE_SECONDS),
      ]);
      const after = await offer(capacity, PHASE_SECONDS);
      const goodputAtCapacity = (before.goodput + after.goodput) / 2;
      const offered = votes.sentInTime / (2 * PHASE_SECONDS);
      const atRestMs = Math.max(msBefore, await measureAtRest());

      expect(Object.keys(unknown.answers)).toEqual(['404']);
      const unknownMs = unknown.answers['404']?.latency.p50 ?? Number.NaN;
      const refusedMs = votes.answers['503']?.latency.p50 ?? Number.NaN;
      const counts = Object.entries(votes.answers).map(([answer, { count }]) => `${answer}: ${count}`);
      const report = [
        `capacity ${capacity.toFixed(0)}/s; of as many, accepted ${before.goodput.toFixed(0)}/s before and ${after.goodput.toFixed(0)}/s after`,
        `of ${offered.toFixed(0)}/s, accepted ${votes.goodput.toFixed(0)}/s in ${votes.latency.p50.toFixed(0)} ms`,
        `refused in ${refusedMs.toFixed(0)} ms, unknown hosts in ${unknownMs.toFixed(0)} ms, at rest in ${atRestMs.toFixed(0)} ms (medians)`,
        `answers ${counts.join(', ')}`,
      ];
      console.log(report.join('; '));
      const isQuiet = atRestMs <= QUIET_MS_MEDIAN_MAX;
      if (isQuiet) {
        expect(votes.failed).toBe(0);
        expect(offered / capacity).toBeGreaterThan(0.8 * OVERLOAD);
        // Compared with an open loop too: a vote of clients that wait for their answers costs the handlers less CPU.
        expect(votes.goodput / goodputAtCapacity).toBeGreaterThan(GOODPUT_SHARE_MIN);
        expect(refusedMs - unknownMs).toBeLessThan(REFUSAL_MS_MEDIAN_MAX);
      }
      const vote = {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: '{"choice":"cats"}',
      };
      expect((await askProxy(cluster, VOTE_HOST, `/polls/${POLL}/votes`, vote)).status).toBe(202);
      // No handler was restarted because it was busy.
      for (const engine of frontends) await containerOf(engine, 'vote');
      expect((await untilCounted(cluster)).total.lost).toBe(0);
      skip(!isQuiet, 'other processes use too much of this machine to judge the handlers');
    } finally {
      // A handler that was replaced meanwhile does not have the limit.
      await Promise.allSettled(frontends.map((engine) => limitVote(engine, VOTE_CPUS_BEFORE)));
    }
  });
}
