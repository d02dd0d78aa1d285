import { Counter, Gauge, Histogram, type Registry } from '@prometheus-io/client';
import type { CommitterOptions } from './committer.ts';
import type { NodeState } from './node-pool.ts';

const COMMIT_SECONDS_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const OUTCOMES = ['counted', 'changed', 'superseded', 'rejected'] as const;

/**
 * Registers the metrics of a worker.
 *
 * @param nodes returns the pool's nodes; called on each scrape
 * @returns the callbacks that record commits and jobs whose source belongs to another node
 */
export function createWorkerMetrics(
  registry: Registry,
  nodes: () => ReadonlyMap<string, NodeState>,
): { readonly onCommit: NonNullable<CommitterOptions['onCommit']>; readonly onForeignJob: () => void } {
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
  new Gauge({
    name: 'turnout_node_jobs',
    help: 'Jobs of the node: waiting or delayed (of another format version) in its queue, and active in this worker',
    labelNames: ['node', 'state'],
    registers,
    collect() {
      this.reset();
      for (const [node, { waitingJobs, delayedJobs, activeJobs }] of nodes()) {
        this.set({ node, state: 'waiting' }, waitingJobs);
        this.set({ node, state: 'delayed' }, delayedJobs);
        this.set({ node, state: 'active' }, activeJobs);
      }
    },
  });
  return {
    onCommit: (result, durationMs) => {
      for (const outcome of OUTCOMES) votes.inc({ outcome }, result[outcome]);
      jobs.inc({ kind: 'new' }, result.jobs);
      jobs.inc({ kind: 'duplicate' }, result.duplicates);
      jobs.inc({ kind: 'discarded' }, result.discarded);
      jobs.inc({ kind: 'written_off' }, result.writtenOff.size);
      seconds.observe(durationMs / 1_000);
    },
    onForeignJob: () => foreignJobs.inc(),
  };
}
