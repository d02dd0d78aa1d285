import type { Load } from '../load/client.ts';
import type { LoadOrder, LoadResult, RequestKind } from '../load/order.ts';
import { type Component, startUsage, type Usage } from '../measure/cpu.ts';
import { costPerVote } from '../measure/vote-cost.ts';
import { resetTables } from '../testbed/tables.ts';
import { Testbed, type TestbedPostgres, type TestbedServer } from '../testbed/testbed.ts';
import { type Bench, interleave, type Scenario } from './scenario.ts';

/** Long enough for V8 to have compiled what runs for every vote. */
const WARM_SECONDS = 1.5;
const WARM_CONNECTIONS = 256;

interface Side {
  readonly name: string;
  readonly kind: RequestKind;
  start(
    testbed: Testbed,
    postgres: TestbedPostgres,
  ): Promise<{ server: TestbedServer; components: readonly Component[] }>;
}

/** Our own handler with its Redis, under the requests of one kind. */
const turnout = (name: string, kind: RequestKind): Side => ({
  name,
  kind,
  start: async (testbed) => {
    const redis = await testbed.startRedis();
    const server = await testbed.startHandler('bench01', redis.socket);
    return { server, components: [server.component, redis.component] };
  },
});

/** A baseline that keeps nothing. */
const keepingNothing = (name: string): Side => ({
  name,
  kind: 'first',
  start: async (testbed) => {
    const server = await testbed.startBaseline(name, {});
    return { server, components: [server.component] };
  },
});

/** A baseline that keeps votes in a Redis with the same settings as ours. */
const onRedis = (name: string): Side => ({
  name,
  kind: 'first',
  start: async (testbed) => {
    const redis = await testbed.startRedis();
    const server = await testbed.startBaseline(name, { REDIS_URL: redis.socket });
    return { server, components: [server.component, redis.component] };
  },
});

const onPostgres = (name: string): Side => ({
  name,
  kind: 'first',
  start: async (testbed, postgres) => {
    await resetTables(postgres.db);
    const server = await testbed.startBaseline(name, { DATABASE_URL: postgres.url });
    return { server, components: [server.component, postgres.component] };
  },
});

const SIDES: readonly Side[] = [
  turnout('turnout', 'first'),
  turnout('turnout, returning voters', 'returning'),
  turnout('turnout, browser form', 'form'),
  turnout('turnout, page only', 'page'),
  keepingNothing('empty'),
  keepingNothing('raw'),
  onRedis('rpush'),
  onRedis('job-per-vote'),
  onPostgres('insert-per-vote'),
];

/** Durable votes a second, their latency and their cost, by connections; against servers that do less. */
export const capture: Scenario = {
  name: 'capture',
  title: 'votes captured on disk, one frontend, by connections; baselines on the same machine',
  run: async (bench) => {
    const connections = bench.isQuick ? [16, 256] : [1, 16, 64, 256];
    const seconds = bench.isQuick ? 1 : 1.5;
    await Testbed.use(async (shared) => {
      const postgres = await shared.startPostgres();
      const load = shared.startLoad();
      for (const { round, side } of interleave(SIDES, bench.rounds)) {
        bench.progress(`round ${round} of ${bench.rounds}: ${side.name}`);
        await Testbed.use((testbed) =>
          runSide({ testbed, bench, postgres, load, side, round, connections, seconds }),
        );
      }
    });
  },
};

interface SideRun {
  readonly testbed: Testbed;
  readonly bench: Bench;
  readonly postgres: TestbedPostgres;
  readonly load: Load;
  readonly side: Side;
  readonly round: number;
  readonly connections: readonly number[];
  readonly seconds: number;
}

async function runSide({
  testbed,
  bench,
  postgres,
  load,
  side,
  round,
  connections,
  seconds,
}: SideRun): Promise<void> {
  const { server, components } = await side.start(testbed, postgres);
  const common = { ports: [server.port], kind: side.kind };
  await runLoad(load, components, { ...common, connections: WARM_CONNECTIONS, seconds: WARM_SECONDS });
  for (const count of connections) {
    const { result, usage } = await runLoad(load, components, { ...common, connections: count, seconds });
    bench.record({
      scenario: 'capture',
      side: side.name,
      round,
      params: { connections: count },
      metrics: { ...latencyMetrics(result), ...costPerVote(usage, result.accepted) },
    });
  }
}

/** Carries out an order and measures what it cost. @throws when nothing was accepted */
export async function runLoad(
  load: Load,
  components: readonly Component[],
  order: LoadOrder,
): Promise<{ result: LoadResult; usage: Usage }> {
  await load.prepare(order);
  const endUsage = startUsage(components, [load.pid]);
  const result = await load.run();
  const usage = endUsage();
  if (result.accepted === 0) throw new Error('no vote was accepted');
  return { result, usage };
}

/** Rate and latency of what was accepted, and what was not. */
export function latencyMetrics({ accepted, refused, failed, seconds, latency }: LoadResult) {
  return {
    votesPerSecond: accepted / seconds,
    p50Ms: latency.p50,
    p99Ms: latency.p99,
    p999Ms: latency.p999,
    refused,
    failed,
  };
}
