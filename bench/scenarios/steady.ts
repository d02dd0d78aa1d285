import { Queue } from 'bullmq';
import type { RequestKind } from '#kit/load/spec.ts';
import type { TestRedis } from '#kit/redis.ts';
import { until } from '#kit/until.ts';
import type { LoadProcess } from '../load/process.ts';
import { type Component, startUsage } from '../measure/proc.ts';
import type { Sample } from '../measure/sample.ts';
import { costPerVote } from '../measure/vote-cost.ts';
import {
  medianLagMs,
  readCommits,
  readLedgers,
  startSystem,
  type TestbedSystem,
  untilCounted,
} from '../testbed/system.ts';
import { Testbed, type TestbedServer } from '../testbed/testbed.ts';
import { latencyMetrics, runLoad } from './capture.ts';
import { interleave, type Scenario } from './scenario.ts';

const WARM_UP_SECONDS = 30;
const WARM_UP_PER_SECOND = 4_000;
const SLICE_SECONDS = 4;
const CONNECTIONS = 256;
export const MANY_FRONTENDS = 8;
/** In votes per second. The baselines that queue or insert single votes are compared at `SHARED_RATE`: they cannot take the highest. */
export const LOW_RATE = 500;
export const SHARED_RATE = 2_000;
export const HIGH_RATE = 8_000;
export const MANY_RATE = 100 * MANY_FRONTENDS;
const WHOLE_WAY = 'Hono, BullMQ, Redis, PostgreSQL';

interface Side {
  readonly name: string;
  readonly passesThrough: string;
  /** 0: no load. */
  readonly perSecond: number;
  readonly frontends: number;
  readonly kind: RequestKind;
  readonly servers: readonly TestbedServer[];
  readonly components: readonly Component[];
  /** Waits until all votes are where they end, within the usual deadline. */
  readonly finish: () => Promise<void>;
  /** Absent for baselines. */
  readonly system?: TestbedSystem;
}

/**
 * What a vote costs while it is captured and counted, at fixed rates: an open loop over connections that stay open, with
 * everything running, as during an event. A slice ends when all its votes are counted; of a baseline, when they are where they end.
 */
export const steady: Scenario = {
  name: 'steady',
  title: 'votes captured and counted at the same time, at fixed rates; CPU of all processes per vote',
  run: async (bench) => {
    await Testbed.use(async (testbed) => {
      const load = testbed.startLoadProcess();
      const sides = await startSides(testbed);
      for (const side of sides.filter(({ perSecond }) => perSecond > 0)) {
        bench.progress(`warming up: ${side.name}, ${side.perSecond} votes/s`);
        const isFirstOfSystem = sides.find(({ system }) => system === side.system) === side;
        const seconds = side.system && isFirstOfSystem && !bench.isQuick ? WARM_UP_SECONDS : SLICE_SECONDS;
        await runRate(load, side, Math.min(WARM_UP_PER_SECOND, side.perSecond), seconds);
      }
      for (const { round, side } of interleave(sides, bench.rounds)) {
        bench.progress(`round ${round} of ${bench.rounds}: ${side.name}, ${side.perSecond} votes/s`);
        bench.record(
          side.perSecond === 0 ? await measureIdle(side, round) : await measureRate(load, side, round),
        );
      }
    });
  },
};

async function startSides(testbed: Testbed): Promise<Side[]> {
  const one = await startSystem(testbed, 1);
  const many = await startSystem(testbed, MANY_FRONTENDS);
  const postgres = await testbed.startPostgres();
  const empty = await testbed.startBaseline('empty', {});
  const insert = await testbed.startBaseline('insert-per-vote', { DATABASE_URL: postgres.url });
  const redis = await testbed.startRedis();
  const job = await testbed.startBaseline('job-per-vote', { REDIS_URL: redis.socket });
  const jobWorker = testbed.startBaselineWorker('job-per-vote-worker', {
    REDIS_URL: redis.socket,
    DATABASE_URL: postgres.url,
  });
  const systemSide = (system: TestbedSystem, perSecond: number, kind: RequestKind = 'first'): Side => ({
    name: kind === 'first' ? 'turnout' : 'turnout, returning voters',
    passesThrough: WHOLE_WAY,
    perSecond,
    frontends: system.handlers.length,
    kind,
    servers: system.handlers,
    components: system.components,
    finish: () => untilCounted(system),
    system,
  });
  const baseline = (
    name: string,
    passesThrough: string,
    server: TestbedServer,
    perSecond: number,
    others: readonly Component[],
    finish = async () => {},
  ): Side => ({
    name,
    passesThrough,
    perSecond,
    frontends: 1,
    kind: 'first',
    servers: [server],
    components: [server.component, ...others],
    finish,
  });
  const jobComponents = [redis.component, jobWorker, postgres.component];
  return [
    ...[LOW_RATE, SHARED_RATE, HIGH_RATE].map((rate) => systemSide(one, rate)),
    systemSide(one, HIGH_RATE, 'returning'),
    systemSide(many, MANY_RATE),
    ...[LOW_RATE, MANY_RATE, HIGH_RATE].map((rate) => baseline('empty', 'Hono', empty, rate, [])),
    baseline('job-per-vote', WHOLE_WAY, job, SHARED_RATE, jobComponents, () => untilDrained(redis)),
    baseline('insert-per-vote', 'Hono, PostgreSQL', insert, SHARED_RATE, [postgres.component]),
    systemSide(one, 0),
    systemSide(many, 0),
  ];
}

/** Waits until the queue of `job-per-vote` is empty. Its jobs are removed when they are done. */
async function untilDrained({ socket }: TestRedis): Promise<void> {
  const queue = new Queue('votes', { connection: { path: socket } });
  const isEmpty = async () => (await queue.getJobCountByTypes('wait', 'active')) === 0;
  await until('insert all votes', isEmpty).finally(() => queue.close());
}

/** Loads a side at a rate, and waits until all its votes are where they end. Returns the result, and the usage until then. */
async function runRate(load: LoadProcess, side: Side, perSecond: number, seconds: number) {
  const { servers, components, kind } = side;
  const spec = {
    targets: servers.map(({ port }) => ({ port })),
    kind,
    connections: CONNECTIONS,
    seconds,
    rates: [{ atSeconds: 0, perSecond }],
  };
  return runLoad(load, components, spec, side.finish);
}

async function measureRate(load: LoadProcess, side: Side, round: number): Promise<Sample> {
  const { system, perSecond } = side;
  const sinceUs = Date.now() * 1_000;
  const before = system && { ledger: await readLedgers(system.clients), commits: await readCommits(system) };
  const { result, usage } = await runRate(load, side, perSecond, SLICE_SECONDS);
  const metrics = { ...latencyMetrics(result), ...costPerVote(usage, result.accepted) };
  if (!system || !before) return sampleOf(side, round, metrics);
  const ledger = await readLedgers(system.clients);
  const votes = ledger.votes - before.ledger.votes;
  return sampleOf(side, round, {
    ...metrics,
    votesPerJob: votes / (ledger.seq - before.ledger.seq),
    votesPerCommit: votes / ((await readCommits(system)) - before.commits),
    lagMs: await medianLagMs(system, sinceUs),
  });
}

async function measureIdle(side: Side, round: number): Promise<Sample> {
  const endUsage = startUsage(side.components);
  await new Promise((resolve) => setTimeout(resolve, SLICE_SECONDS * 1_000));
  const { seconds, microsByPart, othersShare, stealShare } = endUsage();
  const micros = Object.values(microsByPart).reduce((sum, value) => sum + value, 0);
  return sampleOf(side, round, {
    corePercent: micros / seconds / 10_000,
    othersPercent: othersShare * 100,
    stealPercent: stealShare * 100,
  });
}

function sampleOf(side: Side, round: number, metrics: Sample['metrics']): Sample {
  const { name, perSecond, frontends, passesThrough } = side;
  return { scenario: 'steady', side: name, round, params: { perSecond, frontends }, passesThrough, metrics };
}
