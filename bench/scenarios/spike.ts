import type { Redis } from 'ioredis';
import { auditTallies } from '#db/audit.ts';
import type { Interval, LoadSpec, RatePoint } from '#kit/load/spec.ts';
import { startUsage } from '../measure/proc.ts';
import { untilDone } from '../measure/progress.ts';
import { costPerVote } from '../measure/vote-cost.ts';
import { readLedgers, startSystem } from '../testbed/system.ts';
import { committedVotes, storedVotes } from '../testbed/tables.ts';
import { Testbed, type TestbedPostgres } from '../testbed/testbed.ts';
import { latencyMetrics, runLoad } from './capture.ts';
import type { Bench, Scenario } from './scenario.ts';

const NODES = 2;
const CONNECTIONS = 256;
const WARM_UP_SECONDS = 3;
/** The peak rate relative to the closed-loop rate measured just before. */
const PEAK_SHARE = 0.8;
const QUIET_SHARE_OF_PEAK = 0.02;
const RISE_SECONDS = 2;
const TAIL_STEP_SECONDS = 2;
const INTERVAL_MS = 500;

/** The crowd of a Super Bowl ad: quiet, a steep rise, a peak, a long tail. */
interface Shape {
  readonly quietSeconds: number;
  readonly peakSeconds: number;
  readonly tailSeconds: number;
  readonly halfLifeSeconds: number;
}

/** Capture and drain at the same time under a sudden crowd; at the end, every vote is accounted for. */
export const spike: Scenario = {
  name: 'spike',
  title: `a crowd whose rate peaks within ${RISE_SECONDS} s; ${NODES} frontends and one worker on this machine`,
  run: async (bench) => {
    const shape: Shape = bench.isQuick
      ? { quietSeconds: 4, peakSeconds: 6, tailSeconds: 12, halfLifeSeconds: 3 }
      : { quietSeconds: 5, peakSeconds: 10, tailSeconds: 35, halfLifeSeconds: 7 };
    await Testbed.use((testbed) => runSpike(testbed, bench, shape));
  },
};

async function runSpike(testbed: Testbed, bench: Bench, shape: Shape): Promise<void> {
  const system = await startSystem(testbed, NODES);
  const { handlers, clients, components, postgres } = system;
  const load = testbed.startLoadProcess();
  const spec = {
    targets: handlers.map(({ port }) => ({ port })),
    kind: 'first',
    connections: CONNECTIONS,
  } as const;

  bench.progress('measuring the closed-loop rate');
  await runLoad(load, components, { ...spec, seconds: WARM_UP_SECONDS });
  const { result: closed } = await runLoad(load, components, { ...spec, seconds: WARM_UP_SECONDS });
  const peak = Math.round((closed.accepted / closed.seconds) * PEAK_SHARE);
  const rates = ratesOf(shape, peak);
  const seconds = shape.quietSeconds + RISE_SECONDS + shape.peakSeconds + shape.tailSeconds;
  bench.progress(`${seconds} s, peak ${peak} votes/s`);
  const spikeSpec: LoadSpec = { ...spec, seconds, rates, intervalMs: INTERVAL_MS };
  await load.prepare(spikeSpec);
  const acceptedBefore = (await readLedgers(clients)).votes;
  await untilDone('drain the warm-up', () => committedVotes(postgres.db), acceptedBefore);
  const countedBefore = await storedVotes(postgres.db);
  const endUsage = startUsage(components, [load.pid]);
  const watch = watchBacklog(clients, postgres);
  const result = await load.run();
  const loadEndedAt = performance.now();
  const ledger = (await readLedgers(clients)).votes;
  try {
    await untilDone('drain all votes', () => committedVotes(postgres.db), ledger);
  } catch (error) {
    // Votes were lost; `lost` below counts them.
    console.error((error as Error).message);
  }
  const drainedAfterMs = performance.now() - loadEndedAt;
  const usage = endUsage();
  const queue = await watch.end();
  const mismatches = await auditTallies(postgres.db);
  // Every vote of this load has its own voter. The ledger includes captured votes whose answer was lost.
  const counted = (await storedVotes(postgres.db)) - countedBefore;

  bench.record({
    scenario: 'spike',
    side: 'turnout',
    round: 1,
    params: { nodes: NODES, peakPerSecond: peak },
    metrics: {
      ...latencyMetrics(result),
      ...costPerVote(usage, result.accepted),
      offered: result.accepted + result.refused + result.failed,
      accepted: result.accepted,
      counted,
      lost: Math.max(result.accepted, ledger - acceptedBefore) - counted,
      tallyMismatches: mismatches.length,
      queued: Math.max(0, ...queue.queued),
      drainedAfterMs,
    },
    series: { ...seriesOf(result.intervals), ...queue },
  });
}

function ratesOf(
  { quietSeconds, peakSeconds, tailSeconds, halfLifeSeconds }: Shape,
  peak: number,
): RatePoint[] {
  const tailStart = quietSeconds + RISE_SECONDS + peakSeconds;
  const steps = Math.ceil(tailSeconds / TAIL_STEP_SECONDS);
  const tail = Array.from({ length: steps }, (_, step) => {
    const elapsed = (step + 1) * TAIL_STEP_SECONDS;
    return { atSeconds: tailStart + elapsed, perSecond: peak * 0.5 ** (elapsed / halfLifeSeconds) };
  });
  return [
    { atSeconds: 0, perSecond: peak * QUIET_SHARE_OF_PEAK },
    { atSeconds: quietSeconds, perSecond: peak * QUIET_SHARE_OF_PEAK },
    { atSeconds: quietSeconds + RISE_SECONDS, perSecond: peak },
    { atSeconds: tailStart, perSecond: peak },
    ...tail,
  ];
}

/** Returns one column per metric, by the intervals in which requests were due. */
function seriesOf(intervals: readonly Interval[]) {
  const perSecond = 1_000 / INTERVAL_MS;
  const column = (name: keyof Interval, factor: number): number[] =>
    intervals.map((interval) => interval[name] * factor);
  return {
    seconds: intervals.map((_, index) => (index * INTERVAL_MS) / 1_000),
    offeredPerSecond: column('offered', perSecond),
    acceptedPerSecond: column('accepted', perSecond),
    refusedPerSecond: column('refused', perSecond),
    failedPerSecond: column('failed', perSecond),
    p50Ms: column('p50', 1),
    p99Ms: column('p99', 1),
  };
}

/** Samples the backlog: votes in the ledgers that are not committed yet. */
function watchBacklog(clients: readonly Redis[], { db }: TestbedPostgres) {
  const startedAt = performance.now();
  const queueSeconds: number[] = [];
  const queued: number[] = [];
  const counted: number[] = [];
  let isStopped = false;
  const watching = (async () => {
    while (!isStopped) {
      const committed = await committedVotes(db);
      queued.push((await readLedgers(clients)).votes - committed);
      counted.push(committed);
      queueSeconds.push((performance.now() - startedAt) / 1_000);
      await new Promise((resolve) => setTimeout(resolve, INTERVAL_MS));
    }
  })();
  return {
    end: async () => {
      isStopped = true;
      await watching;
      const first = counted[0] ?? 0;
      return { queueSeconds, queued, counted: counted.map((votes) => votes - first) };
    },
  };
}
