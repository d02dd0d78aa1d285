import { Counter, Gauge, Histogram, type Registry } from '@prometheus-io/client';
import type { CaptureOptions } from './capture.ts';
import { PROBLEMS, type ProblemCode } from './problem.ts';

/** Powers of two from 0.25 ms (a fast disk) to 2 s (`CAPTURE_MS_MAX`). */
const WRITE_SECONDS_BUCKETS = Array.from({ length: 14 }, (_, power) => 0.00025 * 2 ** power);
const VOTES_PER_JOB_BUCKETS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000];

interface WaitingVotes {
  readonly buffered: number;
  readonly inFlight: number;
}

interface VoteMetrics {
  /** Sets where the numbers of waiting votes are read when the metrics are scraped. */
  readonly watch: (waitingVotes: () => WaitingVotes) => void;
  readonly onWrite: NonNullable<CaptureOptions['onWrite']>;
  readonly onProblem: (code: ProblemCode) => void;
  readonly onFutureToken: () => void;
}

/** Creates the metrics of capture. They are updated per write instead of per vote, which keeps their cost negligible. */
export function createVoteMetrics(registry: Registry, bufferVotesMax: number): VoteMetrics {
  let waitingVotes = (): WaitingVotes => ({ buffered: 0, inFlight: 0 });
  const registers = [registry];
  const votes = new Counter({
    name: 'turnout_votes_captured_total',
    help: 'Votes written to disk',
    registers,
  });
  const jobs = new Counter({ name: 'turnout_jobs_captured_total', help: 'Jobs written to disk', registers });
  const seconds = new Histogram({
    name: 'turnout_capture_write_seconds',
    help: 'Time until a write is on disk',
    buckets: WRITE_SECONDS_BUCKETS,
    registers,
  });
  const perJob = new Histogram({
    name: 'turnout_capture_votes_per_job',
    help: 'Votes per job, averaged over a write',
    buckets: VOTES_PER_JOB_BUCKETS,
    registers,
  });
  const problems = new Counter({
    name: 'turnout_vote_problems_total',
    help: 'Requests answered with a problem, by code',
    labelNames: ['code'],
    registers,
  });
  for (const code of Object.keys(PROBLEMS)) problems.inc({ code }, 0);
  const futureTokens = new Counter({
    name: 'turnout_vote_future_tokens_total',
    help: 'Votes whose token is ahead of the clock of this process: a node with a fast clock issued it',
    registers,
  });
  new Gauge({
    name: 'turnout_capture_waiting_votes',
    help: 'Votes waiting for the disk, queued or being written',
    labelNames: ['stage'],
    registers,
    collect() {
      const { buffered, inFlight } = waitingVotes();
      this.set({ stage: 'queued' }, buffered);
      this.set({ stage: 'in_flight' }, inFlight);
    },
  });
  new Gauge({
    name: 'turnout_capture_buffer_votes_max',
    help: 'Votes that may be queued for the disk before further votes are refused',
    registers,
  }).set(bufferVotesMax);
  return {
    watch: (read) => {
      waitingVotes = read;
    },
    onWrite: (write) => {
      votes.inc(write.votes);
      jobs.inc(write.jobs);
      seconds.observe(write.ms / 1_000);
      perJob.observe(write.votes / write.jobs);
    },
    onProblem: (code) => problems.inc({ code }),
    onFutureToken: () => futureTokens.inc(),
  };
}
