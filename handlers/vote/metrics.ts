import { Counter, Gauge, Histogram, type Registry } from '@prometheus-io/client';
import type { CaptureOptions } from './capture.ts';
import type { ProblemCode } from './problem.ts';

/** Powers of two from a quarter of a millisecond to two seconds: the range between a good disk and the deadline. */
const WRITE_SECONDS_BUCKETS = Array.from({ length: 14 }, (_, power) => 0.00025 * 2 ** power);
const VOTES_PER_JOB_BUCKETS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000];

interface VoteMetrics {
  readonly onWrite: NonNullable<CaptureOptions['onWrite']>;
  readonly onProblem: (code: ProblemCode) => void;
}

/**
 * The measures of capture. They are updated once a write, not once a vote, and so cost a vote next to nothing.
 *
 * @param waitingVotes asked when the metrics are read
 */
export function createVoteMetrics(
  registry: Registry,
  waitingVotes: () => { readonly inLine: number; readonly beingWritten: number },
): VoteMetrics {
  const registers = [registry];
  const votes = new Counter({ name: 'turnout_votes_captured_total', help: 'Votes on disk', registers });
  const jobs = new Counter({ name: 'turnout_jobs_captured_total', help: 'Jobs on disk', registers });
  const seconds = new Histogram({
    name: 'turnout_capture_write_seconds',
    help: 'Time from sending a write until it is on disk',
    buckets: WRITE_SECONDS_BUCKETS,
    registers,
  });
  const perJob = new Histogram({
    name: 'turnout_capture_votes_per_job',
    help: 'Votes that shared a job, averaged over a write',
    buckets: VOTES_PER_JOB_BUCKETS,
    registers,
  });
  const problems = new Counter({
    name: 'turnout_vote_problems_total',
    help: 'Requests answered with a problem, by its code',
    labelNames: ['code'],
    registers,
  });
  new Gauge({
    name: 'turnout_capture_waiting_votes',
    help: 'Votes that wait for the disk, in line or being written',
    labelNames: ['stage'],
    registers,
    collect() {
      const { inLine, beingWritten } = waitingVotes();
      this.set({ stage: 'in_line' }, inLine);
      this.set({ stage: 'being_written' }, beingWritten);
    },
  });
  return {
    onWrite: (write) => {
      votes.inc(write.votes);
      jobs.inc(write.jobs);
      seconds.observe(write.ms / 1_000);
      perJob.observe(write.votes / write.jobs);
    },
    onProblem: (code) => problems.inc({ code }),
  };
}
