import { Counter, Gauge, Histogram, type Registry } from '@prometheus-io/client';
import type { CommitterOptions } from './committer.ts';
import type { CoordinatedNode, Coordinator } from './coordinator.ts';
import type { NodeState } from './node-pool.ts';
import type { NodeReport } from './node-worker.ts';

const COMMIT_SECONDS_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const OUTCOMES = ['counted', 'changed', 'superseded', 'rejected'] as const;

/** Called by the parts of a worker to update its metrics. */
interface WorkerMetrics {
  readonly onCommit: NonNullable<CommitterOptions['onCommit']>;
  readonly onRetry: NonNullable<CommitterOptions['onRetry']>;
  /** Called for each job whose source belongs to another node. */
  readonly onForeignJob: () => void;
  readonly onStalledJob: () => void;
}

/** Called on each scrape. */
interface Readings {
  readonly nodes: () => ReadonlyMap<string, NodeState>;
  readonly coordinator: () => Pick<Coordinator, 'isHolder' | 'nodes'>;
}

/** Registers the metrics of a worker. Every worker probes every node, so rules take the maximum by `node`. */
export function createWorkerMetrics(registry: Registry, { nodes, coordinator }: Readings): WorkerMetrics {
  const registers = [registry];
  const votes = new Counter({
    name: 'turnout_votes_committed_total',
    help: 'Votes in committed jobs, by outcome',
    labelNames: ['outcome'],
    registers,
  });
  const jobs = new Counter({
    name: 'turnout_jobs_committed_total',
    help: 'Jobs: new, duplicates of jobs committed earlier, discarded above the fence of their source, written off',
    labelNames: ['kind'],
    registers,
  });
  const seconds = new Histogram({
    name: 'turnout_commit_seconds',
    help: 'Duration of successful commits',
    buckets: COMMIT_SECONDS_BUCKETS,
    registers,
  });
  const retries = new Counter({
    name: 'turnout_commit_retries_total',
    help: 'Repeated commits: after a lost race with another worker, or after a fault of Postgres',
    labelNames: ['reason'],
    registers,
  });
  for (const outcome of OUTCOMES) votes.inc({ outcome }, 0);
  for (const reason of ['race', 'fault']) retries.inc({ reason }, 0);
  const stalledJobs = new Counter({
    name: 'turnout_jobs_stalled_total',
    help: 'Jobs fetched again because the lock of their worker had expired',
    registers,
  });
  const foreignJobs = new Counter({
    name: 'turnout_jobs_foreign_total',
    help: 'Jobs failed because their source belongs to another node: a handler is faulty or compromised',
    registers,
  });
  new Gauge({
    name: 'turnout_node_up',
    help: '1 if the node answered its last probe, 0 otherwise',
    labelNames: ['node'],
    registers,
    collect() {
      this.reset();
      for (const [node, { isUp }] of nodes()) this.set({ node }, isUp ? 1 : 0);
    },
  });
  const nodeGauge = (name: string, help: string, read: (report: NodeReport) => number) =>
    new Gauge({
      name,
      help,
      labelNames: ['node'],
      registers,
      collect() {
        this.reset();
        for (const [node, { report }] of nodes()) if (report) this.set({ node }, read(report));
      },
    });
  new Gauge({
    name: 'turnout_node_jobs',
    help: 'Jobs in the queue of the node at its last probe; delayed ones are of another version or wait for their node',
    labelNames: ['node', 'state'],
    registers,
    collect() {
      this.reset();
      for (const [node, { report }] of nodes()) {
        if (!report) continue;
        this.set({ node, state: 'waiting' }, report.waitingJobs);
        this.set({ node, state: 'delayed' }, report.delayedJobs);
        this.set({ node, state: 'active' }, report.activeJobs);
        this.set({ node, state: 'failed' }, report.failedJobs);
      }
    },
  });
  nodeGauge(
    'turnout_node_oldest_job_seconds',
    'Age of the oldest job in the queue of the node at its last probe; 0 without one',
    ({ oldestJobMs }) => oldestJobMs / 1_000,
  );
  nodeGauge(
    'turnout_node_redis_memory_bytes',
    'Memory that the Redis of the node uses',
    ({ memory }) => memory.used,
  );
  nodeGauge(
    'turnout_node_redis_memory_max_bytes',
    'Limit of that memory (maxmemory); 0 without a limit',
    ({ memory }) => memory.max,
  );
  new Gauge({
    name: 'turnout_coordinator_lease_held',
    help: '1 if this worker is the coordinator, 0 otherwise',
    registers,
    collect() {
      this.set(coordinator().isHolder ? 1 : 0);
    },
  });
  const coordinated = (
    name: string,
    help: string,
    labelNames: string[],
    show: (gauge: Gauge<string>, node: string, state: CoordinatedNode) => void,
  ) =>
    new Gauge<string>({
      name,
      help: `${help}; from the coordinator only`,
      labelNames: ['node', ...labelNames],
      registers,
      collect() {
        this.reset();
        for (const [node, state] of coordinator().nodes) show(this, node, state);
      },
    });
  coordinated('turnout_node_enrolled', '1 if the node has an id, 0 otherwise', [], (gauge, node, { id }) =>
    gauge.set({ node }, id === undefined ? 0 : 1),
  );
  coordinated(
    'turnout_node_info',
    'Always 1; the id of the node and the name of its host are labels',
    ['id', 'name'],
    (gauge, node, { id = '', name = '' }) => gauge.set({ node, id, name }, 1),
  );
  coordinated(
    'turnout_node_clock_skew_seconds',
    'Clock of the node minus that of the coordinator',
    [],
    (gauge, node, { clockSkewMs }) => gauge.set({ node }, clockSkewMs / 1_000),
  );
  coordinated('turnout_node_seals', 'Seals in the Redis of the node', [], (gauge, node, { seals }) =>
    gauge.set({ node }, seals),
  );
  coordinated('turnout_node_fences', 'Fenced sources of the node', [], (gauge, node, { fences }) =>
    gauge.set({ node }, fences),
  );
  coordinated(
    'turnout_node_poll_revision',
    'Revision of the poll that the node holds',
    ['poll'],
    (gauge, node, { pollRevisions }) => {
      for (const [poll, revision] of pollRevisions) gauge.set({ node, poll }, revision);
    },
  );
  return {
    onCommit: (result, durationMs) => {
      for (const outcome of OUTCOMES) votes.inc({ outcome }, result[outcome]);
      jobs.inc({ kind: 'new' }, result.jobs);
      jobs.inc({ kind: 'duplicate' }, result.duplicates);
      jobs.inc({ kind: 'discarded' }, result.discarded);
      jobs.inc({ kind: 'written_off' }, result.writtenOff.size);
      seconds.observe(durationMs / 1_000);
    },
    onRetry: (reason) => retries.inc({ reason }),
    onForeignJob: () => foreignJobs.inc(),
    onStalledJob: () => stalledJobs.inc(),
  };
}
