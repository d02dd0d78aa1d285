import type { LoadResult, LoadSpec, RequestKind } from '#kit/load/spec.ts';
import { enrolNode } from '#kit/node.ts';
import type { LoadProcess } from '../load/process.ts';
import { type Component, readNodeFlags, startUsage, type Usage } from '../measure/proc.ts';
import type { Sample } from '../measure/sample.ts';
import { costPerVote } from '../measure/vote-cost.ts';
import { Testbed, type TestbedPostgres, type TestbedServer } from '../testbed/testbed.ts';
import { interleave, type Scenario } from './scenario.ts';

/** Long enough for V8 to optimize the hot path. */
export const WARM_UP_SECONDS = 3;
/** Goals and plans take the costs at this number. */
const CONNECTIONS = 256;
/** Slices of each side at `CONNECTIONS`, for each round of the others: 20 by default. */
const SLICES_PER_ROUND = 4;
export const SLICE_SECONDS = 1.2;

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

interface RunningSide {
  readonly side: Side;
  readonly server: TestbedServer;
  readonly components: readonly Component[];
  readonly nodeFlags: readonly string[];
}

/**
 * Rate, latency and cost of durable votes by connections, compared with the baselines. All sides run at the same time, and are
 * loaded one at a time, in slices of about a second in turns: the speed of a shared machine drifts within seconds, and the ratio
 * of two slices that follow each other does not.
 */
export const capture: Scenario = {
  name: 'capture',
  title: 'votes captured durably by one frontend, by connections; baselines on the same machine',
  run: async (bench) => {
    const others = bench.isQuick ? [16] : [1, 16, 64];
    await Testbed.use(async (testbed) => {
      const load = testbed.startLoadProcess();
      const postgres = await testbed.startPostgres();
      const sides: RunningSide[] = [];
      for (const side of SIDES) {
        bench.progress(`warming up: ${side.name}`);
        const { server, components } = await side.start(testbed, postgres);
        const running = { side, server, components, nodeFlags: readNodeFlags(server.component.pid) };
        await runSlice(load, running, CONNECTIONS, WARM_UP_SECONDS);
        sides.push(running);
      }
      for (const connections of [...others, CONNECTIONS]) {
        const slices = connections === CONNECTIONS ? bench.rounds * SLICES_PER_ROUND : bench.rounds;
        for (const { round, side } of interleave(sides, slices)) {
          bench.progress(`${connections} connections, slice ${round} of ${slices}: ${side.side.name}`);
          bench.record(await measureSlice(load, side, connections, round));
        }
      }
    });
  },
};

async function measureSlice(
  load: LoadProcess,
  side: RunningSide,
  connections: number,
  round: number,
): Promise<Sample> {
  const { result, usage } = await runSlice(load, side, connections, SLICE_SECONDS);
  return {
    scenario: 'capture',
    side: side.side.name,
    round,
    params: { connections },
    passesThrough: side.side.passesThrough,
    nodeFlags: side.nodeFlags,
    metrics: { ...latencyMetrics(result), ...costPerVote(usage, result.accepted) },
  };
}

function runSlice(
  load: LoadProcess,
  { side, server, components }: RunningSide,
  connections: number,
  seconds: number,
) {
  return runLoad(load, components, {
    targets: [{ port: server.port }],
    kind: side.kind,
    connections,
    seconds,
  });
}

/**
 * Runs a load and measures what it costs.
 *
 * @param untilDone called after the load; what it waits for is part of the usage
 * @throws when no request was accepted
 */
export async function runLoad(
  load: LoadProcess,
  components: readonly Component[],
  spec: LoadSpec,
  untilDone = async (): Promise<void> => {},
): Promise<{ result: LoadResult; usage: Usage }> {
  await load.prepare(spec);
  const endUsage = startUsage(components, [load.pid]);
  const result = await load.run();
  await untilDone();
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
