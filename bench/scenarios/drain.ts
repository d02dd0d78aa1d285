import { type Component, readNodeFlags, startUsage } from '../measure/proc.ts';
import { untilDone } from '../measure/progress.ts';
import { costPerVote } from '../measure/vote-cost.ts';
import { fill, fillJobPerVote, setPaused } from '../testbed/backlog.ts';
import { committedVotes, readSize, resetTables, storedVotes } from '../testbed/tables.ts';
import { Testbed, type TestbedPostgres } from '../testbed/testbed.ts';
import { type Bench, interleave, type Scenario } from './scenario.ts';

export const VOTES_PER_JOB = 500;
const PASSES_THROUGH = 'Redis, BullMQ, PostgreSQL';
const WARM_UP_VOTES = 50_000;
/** Of the baseline: far fewer jobs that take V8 as long. */
const WARM_UP_JOBS = 5_000;

interface Side {
  readonly workers: number;
  readonly nodes: number;
}

const SIDES: readonly Side[] = [
  { workers: 1, nodes: 1 },
  { workers: 1, nodes: 2 },
  { workers: 1, nodes: 4 },
  { workers: 1, nodes: 8 },
  { workers: 2, nodes: 8 },
];

/** Rate and cost of draining a backlog by workers and nodes, compared with one job and one insert per vote. */
export const drain: Scenario = {
  name: 'drain',
  title: `a backlog in jobs of ${VOTES_PER_JOB}, drained into PostgreSQL by M workers from N nodes`,
  run: async (bench) => {
    const votes = bench.isQuick ? 250_000 : 1_000_000;
    const baselineVotes = bench.isQuick ? 10_000 : 20_000;
    await Testbed.use(async (shared) => {
      const postgres = await shared.startPostgres();
      for (const { round, side } of interleave<Side | 'baseline'>([...SIDES, 'baseline'], bench.rounds)) {
        await resetTables(postgres.db);
        await Testbed.use((testbed) =>
          side === 'baseline'
            ? runBaseline({ testbed, bench, postgres, round, votes: baselineVotes })
            : runSide({ testbed, bench, postgres, round, votes }, side),
        );
      }
    });
  },
};

interface Run {
  readonly testbed: Testbed;
  readonly bench: Bench;
  readonly postgres: TestbedPostgres;
  readonly round: number;
  readonly votes: number;
}

async function runSide(
  { testbed, bench, postgres, round, votes }: Run,
  { workers, nodes }: Side,
): Promise<void> {
  bench.progress(`round ${round} of ${bench.rounds}: ${workers} worker(s), ${nodes} node(s)`);
  const redises = await Promise.all(Array.from({ length: nodes }, () => testbed.startRedis()));
  const sockets = redises.map(({ socket }) => socket);
  const servers = await Promise.all(
    Array.from({ length: workers }, (_, index) =>
      testbed.startWorker(`worker${index + 1}`, sockets, postgres.url),
    ),
  );
  const components = [
    ...servers.map(({ component }) => component),
    ...redises.map(({ component }) => component),
    postgres.component,
  ];
  await warmUp(sockets, postgres);
  await setPaused(sockets, true);
  await fill(sockets, votes, VOTES_PER_JOB);
  const metrics = await measureDrain({ sockets, components, postgres, votes });
  bench.record({
    scenario: 'drain',
    side: 'turnout',
    round,
    params: { workers, nodes },
    passesThrough: PASSES_THROUGH,
    nodeFlags: servers.flatMap(({ component }) => readNodeFlags(component.pid)),
    metrics,
  });
}

/** Drains enough votes from these nodes for V8 to optimize the workers' hot path. */
export async function warmUp(sockets: readonly string[], { db }: TestbedPostgres): Promise<void> {
  const before = await committedVotes(db);
  await fill(sockets, WARM_UP_VOTES, VOTES_PER_JOB);
  await untilDone('drain the warm-up', async () => (await committedVotes(db)) - before, WARM_UP_VOTES);
}

/** Resumes nodes whose queues were filled while paused, and measures until `votes` more votes are counted. */
export async function measureDrain(options: {
  readonly sockets: readonly string[];
  readonly components: readonly Component[];
  readonly postgres: TestbedPostgres;
  readonly votes: number;
}) {
  const { sockets, components, postgres, votes } = options;
  const before = await committedVotes(postgres.db);
  const sizeBefore = await readSize(postgres.db);
  const endUsage = startUsage(components);
  await setPaused(sockets, false);
  const startedAt = performance.now();
  const done = await untilDone(
    'drain the backlog',
    async () => (await committedVotes(postgres.db)) - before,
    votes,
  );
  const seconds = (performance.now() - startedAt) / 1_000;
  const usage = endUsage();
  const size = await readSize(postgres.db);
  return {
    ...costPerVote(usage, done),
    votesPerSecond: done / seconds,
    tableBytes: (size.tableBytes - sizeBefore.tableBytes) / done,
    walBytes: (size.walBytes - sizeBefore.walBytes) / done,
  };
}

async function runBaseline({ testbed, bench, postgres, round, votes }: Run): Promise<void> {
  bench.progress(`round ${round} of ${bench.rounds}: job-per-vote`);
  const { client, socket, component } = await testbed.startRedis();
  const env = { REDIS_URL: socket, DATABASE_URL: postgres.url };
  const worker = testbed.startBaselineWorker('job-per-vote-worker', env);
  await fillJobPerVote(socket, WARM_UP_JOBS);
  await untilDone('drain the warm-up', () => storedVotes(postgres.db), WARM_UP_JOBS);
  await setPaused([socket], true);
  await fillJobPerVote(socket, votes);
  const endUsage = startUsage([worker, component, postgres.component]);
  await setPaused([socket], false);
  const startedAt = performance.now();
  // Two LLENs cost Redis little; counting rows would cost PostgreSQL much.
  const waiting = async (): Promise<number> =>
    (await client.llen('bull:votes:wait')) + (await client.llen('bull:votes:active'));
  const done = await untilDone('drain the jobs', async () => votes - (await waiting()), votes);
  const seconds = (performance.now() - startedAt) / 1_000;
  const metrics = { ...costPerVote(endUsage(), done), votesPerSecond: done / seconds };
  bench.record({
    scenario: 'drain',
    side: 'job-per-vote',
    round,
    params: { workers: 1, nodes: 1 },
    passesThrough: PASSES_THROUGH,
    nodeFlags: readNodeFlags(worker.pid),
    metrics,
  });
}
