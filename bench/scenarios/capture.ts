import type { LoadResult, LoadSpec, RequestKind } from '#kit/load/spec.ts';
import { enrolNode } from '#kit/node.ts';
import type { LoadProcess } from '../load/process.ts';
import { type Component, readNodeFlags, startUsage, type Usage } from '../measure/proc.ts';
import { costPerVote } from '../measure/vote-cost.ts';
import { resetTables } from '../testbed/tables.ts';
import { Testbed, type TestbedPostgres, type TestbedServer } from '../testbed/testbed.ts';
import { type Bench, interleave, type Scenario } from './scenario.ts';

/** Long enough for V8 to optimize the hot path. */
const WARM_UP_SECONDS = 1.5;
const WARM_UP_CONNECTIONS = 256;

interface Side {
  readonly name: string;
  readonly passesThrough: string;
  readonly kind: RequestKind;
  start(
    testbed: Testbed,
    postgres: TestbedPostgres,
  ): Promise<{ server: TestbedServer; components: readonly Component[] }>;
}

/** The vote handler with its Redis, under requests of one kind. */
const turnout = (name: string, kind: RequestKind, passesThrough = 'Hono, BullMQ, Redis'): Side => ({
  name,
  passesThrough,
  kind,
  start: async (testbed) => {
    const redis = await testbed.startRedis();
    await enrolNode(redis.client);
    const server = await testbed.startHandler('bench01', redis.socket);
    return { server, components: [server.component, redis.component] };
  },
});

/** A baseline that stores nothing. */
const withoutStore = (name: string, passesThrough: string): Side => ({
  name,
  passesThrough,
  kind: 'first',
  start: async (testbed) => {
    const server = await testbed.startBaseline(name, {});
    return { server, components: [server.component] };
  },
});

/** A baseline that stores votes in a Redis with the product's settings. */
const withRedis = (name: string, passesThrough: string): Side => ({
  name,
  passesThrough,
  kind: 'first',
  start: async (testbed) => {
    const redis = await testbed.startRedis();
    const server = await testbed.startBaseline(name, { REDIS_URL: redis.socket });
    return { server, components: [server.component, redis.component] };
  },
});

const withPostgres = (name: string, passesThrough: string): Side => ({
  name,
  passesThrough,
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
  turnout('turnout, page only', 'page', 'Hono'),
  withoutStore('empty', 'Hono'),
  withoutStore('raw', 'node:http'),
  withRedis('rpush', 'Hono, Redis'),
  withRedis('job-per-vote', 'Hono, BullMQ, Redis'),
  withPostgres('insert-per-vote', 'Hono, PostgreSQL'),
];

/** Rate, latency and cost of durable votes by connections, compared with the baselines. */
export const capture: Scenario = {
  name: 'capture',
  title: 'votes captured durably by one frontend, by connections; baselines on the same machine',
  run: async (bench) => {
    const connections = bench.isQuick ? [16, 256] : [1, 16, 64, 256];
    const seconds = bench.isQuick ? 1 : 1.5;
    await Testbed.use(async (shared) => {
      const postgres = await shared.startPostgres();
      const load = shared.startLoadProcess();
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
  readonly load: LoadProcess;
  readonly side: Side;
  readonly round: number;
  readonly connections: readonly number[];
  readonly seconds: number;
}

async function runSide(run: SideRun): Promise<void> {
  const { testbed, bench, postgres, load, side, round, connections, seconds } = run;
  const { server, components } = await side.start(testbed, postgres);
  const nodeFlags = readNodeFlags(server.component.pid);
  const target = { targets: [{ port: server.port }], kind: side.kind };
  await runLoad(load, components, { ...target, connections: WARM_UP_CONNECTIONS, seconds: WARM_UP_SECONDS });
  for (const count of connections) {
    const { result, usage } = await runLoad(load, components, { ...target, connections: count, seconds });
    bench.record({
      scenario: 'capture',
      side: side.name,
      round,
      params: { connections: count },
      passesThrough: side.passesThrough,
      nodeFlags,
      metrics: { ...latencyMetrics(result), ...costPerVote(usage, result.accepted) },
    });
  }
}

/**
 * Runs a load and measures what it costs.
 *
 * @throws when no request was accepted
 */
export async function runLoad(
  load: LoadProcess,
  components: readonly Component[],
  spec: LoadSpec,
): Promise<{ result: LoadResult; usage: Usage }> {
  await load.prepare(spec);
  const endUsage = startUsage(components, [load.pid]);
  const result = await load.run();
  const usage = endUsage();
  if (result.accepted === 0) {
    throw new Error(`no request was accepted, answers: ${Object.keys(result.answers).join(', ')}`);
  }
  return { result, usage };
}

/** Returns rate and latency of accepted requests, and the number of the others. */
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
