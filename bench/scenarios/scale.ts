import { enrolNode } from '#kit/node.ts';
import type { LoadProcess } from '../load/process.ts';
import type { Component } from '../measure/proc.ts';
import { costPerVote } from '../measure/vote-cost.ts';
import { fill, setPaused } from '../testbed/backlog.ts';
import { resetTables } from '../testbed/tables.ts';
import { Testbed, type TestbedPostgres } from '../testbed/testbed.ts';
import { latencyMetrics, runLoad } from './capture.ts';
import { measureDrain, VOTES_PER_JOB, warmUp } from './drain.ts';
import { type Bench, interleave, type Scenario } from './scenario.ts';

/** Constant per node, so that jobs have the same size for every number of nodes. */
const CONNECTIONS_PER_NODE = 32;
const WARM_UP_SECONDS = 3;
const CAPTURE_SECONDS = 4;
/** Votes drained under measurement: the first of a larger backlog, or several smaller backlogs. */
const MEASURED_VOTES = 250_000;
const BACKLOG_CONNECTIONS = 64;

/** The cost of a vote by number of nodes and by size of the backlog. */
export const scale: Scenario = {
  name: 'scale',
  title: 'the cost of a vote by nodes and by backlog',
  run: async (bench) => {
    const backlogs = bench.isQuick ? [10_000, 100_000, 1_000_000] : [10_000, 100_000, 1_000_000, 10_000_000];
    const rounds = bench.isQuick ? 1 : 3;
    // Filling ten million votes takes minutes.
    const backlogRounds = bench.isQuick ? 1 : 2;
    await Testbed.use(async (shared) => {
      const postgres = await shared.startPostgres();
      const load = shared.startLoadProcess();
      for (const { round, side } of interleave([1, 2, 4, 8], rounds)) {
        bench.progress(`round ${round}: ${side} node(s)`);
        await Testbed.use((testbed) => captureOnNodes({ testbed, bench, load, round, nodes: side }));
      }
      for (const { round, side } of interleave(backlogs, backlogRounds)) {
        bench.progress(`round ${round}: ${side} votes waiting`);
        await resetTables(postgres.db);
        await Testbed.use((testbed) =>
          measureBacklog({ testbed, bench, load, postgres, round, backlog: side }),
        );
      }
    });
  },
};

async function captureOnNodes(options: {
  readonly testbed: Testbed;
  readonly bench: Bench;
  readonly load: LoadProcess;
  readonly round: number;
  readonly nodes: number;
}): Promise<void> {
  const { testbed, bench, load, round, nodes } = options;
  const names = Array.from({ length: nodes }, (_, index) => `bench0${index + 1}`);
  const frontends = await Promise.all(
    names.map(async (name) => {
      const redis = await testbed.startRedis();
      await enrolNode(redis.client);
      return { redis, handler: await testbed.startHandler(name, redis.socket) };
    }),
  );
  const components = frontends.flatMap(({ redis, handler }) => [handler.component, redis.component]);
  const spec = {
    targets: frontends.map(({ handler }) => ({ port: handler.port })),
    kind: 'first',
    connections: CONNECTIONS_PER_NODE * nodes,
  } as const;
  await runLoad(load, components, { ...spec, seconds: WARM_UP_SECONDS });
  const { result, usage } = await runLoad(load, components, { ...spec, seconds: CAPTURE_SECONDS });
  bench.record({
    scenario: 'scale',
    side: 'capture by nodes',
    round,
    params: { nodes },
    metrics: { ...latencyMetrics(result), ...costPerVote(usage, result.accepted) },
  });
}

async function measureBacklog(options: {
  readonly testbed: Testbed;
  readonly bench: Bench;
  readonly load: LoadProcess;
  readonly postgres: TestbedPostgres;
  readonly round: number;
  readonly backlog: number;
}): Promise<void> {
  const { testbed, bench, load, postgres, round, backlog } = options;
  const redis = await testbed.startRedis();
  await enrolNode(redis.client);
  const handler = await testbed.startHandler('bench01', redis.socket);
  const capturing = [handler.component, redis.component];
  const spec = {
    targets: [{ port: handler.port }],
    kind: 'first',
    connections: BACKLOG_CONNECTIONS,
  } as const;
  await setPaused([redis.socket], true);
  await runLoad(load, capturing, { ...spec, seconds: WARM_UP_SECONDS });
  await fill([redis.socket], backlog, VOTES_PER_JOB);
  const { result, usage } = await runLoad(load, capturing, { ...spec, seconds: CAPTURE_SECONDS });
  bench.record({
    scenario: 'scale',
    side: 'capture by backlog',
    round,
    params: { backlog },
    metrics: { ...latencyMetrics(result), ...costPerVote(usage, result.accepted) },
  });
  await Promise.all([handler.close(), redis.client.flushall()]);
  await drainBacklogs({
    testbed,
    bench,
    postgres,
    round,
    backlog,
    socket: redis.socket,
    redis: redis.component,
  });
}

/** Warms the worker up on one node while the backlog is paused on another. */
async function drainBacklogs(options: {
  readonly testbed: Testbed;
  readonly bench: Bench;
  readonly postgres: TestbedPostgres;
  readonly round: number;
  readonly backlog: number;
  readonly socket: string;
  readonly redis: Component;
}): Promise<void> {
  const { testbed, bench, postgres, round, backlog, socket, redis } = options;
  const warm = await testbed.startRedis();
  const worker = await testbed.startWorker('worker', [warm.socket, socket], postgres.url);
  const components = [worker.component, redis, postgres.component];
  await warmUp([warm.socket], postgres);
  const drained: Awaited<ReturnType<typeof measureDrain>>[] = [];
  for (let votes = 0; votes < MEASURED_VOTES; votes += backlog) {
    await setPaused([socket], true);
    await fill([socket], backlog, VOTES_PER_JOB);
    const votesMax = Math.min(backlog, MEASURED_VOTES);
    drained.push(await measureDrain({ sockets: [socket], components, postgres, votes: votesMax }));
  }
  for (const metrics of drained) {
    bench.record({ scenario: 'scale', side: 'drain by backlog', round, params: { backlog }, metrics });
  }
}
