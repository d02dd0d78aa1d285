import { setTimeout as sleep } from 'node:timers/promises';
import type { CommitResult } from '#db/commit.ts';
import { retryPolicyFor } from '#db/errors.ts';
import { jobKey, type ReceivedBatch } from '#job';
import type { Log } from '#runtime/log.ts';

/** Postgres rejects the data of a job that could be parsed, or an operator has written the job off. Retrying does not help. */
class UncommittableError extends Error {
  override readonly name = 'UncommittableError';
}

/** The job cannot be committed yet, see `CommitResult.deferred`. Its worker delays it. */
export class DeferredError extends Error {
  override readonly name = 'DeferredError';
}

export interface CommitterOptions {
  /** Commits jobs in one transaction, see `commitBatches`. */
  readonly commit: (batches: readonly ReceivedBatch[], shard: number) => Promise<CommitResult>;
  /** Whether jobs wait in any queue. Then a commit starts at once. Tests leave it out and never wait. */
  readonly isBehind?: () => boolean;
  readonly log: Log;
  /** Called after each successful commit with its result and duration. */
  readonly onCommit?: (result: CommitResult, durationMs: number) => void;
  /** Called before each retry: after a lost race with another commit, or after a fault. */
  readonly onRetry?: (reason: 'race' | 'fault') => void;
  /** Called with the reason when commits start to fail, and with `undefined` when every lane has recovered. */
  readonly onFault?: (reason: string | undefined) => void;
}

/** Concurrent commits, each on its own connection with its own shard. More do not help: they share one disk. */
export const LANES = 2;
/** A group closes when it reaches this many votes: about 70 ms of work for Postgres. */
const VOTES_PER_COMMIT_MAX = 10_000;
/**
 * PostgreSQL takes 40 µs per vote in commits of 136 votes, and 11 in commits of 10,000. So a committer that keeps up delays a
 * commit until it has this many votes, or until its first job has waited this long.
 */
const VOTES_PER_COMMIT_MIN = 5_000;
const COMMIT_DELAY_MS_MAX = 200;
/** The first lane draws its shard at random. Lanes of two workers with the same shard wait for each other: slower, but correct. */
const SHARDS = 1_024;
const RETRY_DELAY_MS_MIN = 100;
const RETRY_DELAY_MS_MAX = 2_000;

if (VOTES_PER_COMMIT_MIN > VOTES_PER_COMMIT_MAX) {
  throw new RangeError(
    'a group must hold what a lane waits for: VOTES_PER_COMMIT_MIN <= VOTES_PER_COMMIT_MAX',
  );
}

interface PendingJob {
  readonly batch: ReceivedBatch;
  /** When it was submitted, as `performance.now()`. */
  readonly since: number;
  readonly resolve: () => void;
  readonly reject: (error: UncommittableError | DeferredError) => void;
}

/**
 * Group commit of jobs from all nodes: jobs that arrive while every lane is busy, or within the delay, share a commit.
 *
 * A lane: idle ──a group is due──▶ committing ──done──▶ idle, or the next group if it is due
 *                         │    ▲
 *                  failed │    │ after the delay, the same group
 *                         ▼    │
 *                       backing off
 *
 * A group is due when jobs wait in a queue, when it has enough votes, or when its first job has waited for the delay.
 *
 * On a transient error a lane retries its group until it succeeds. Meanwhile BullMQ renews the locks of these jobs, none
 * uses up an attempt, and the workers fetch no further jobs. The workers' concurrency bounds the number of pending jobs.
 */
export class Committer {
  readonly #options: CommitterOptions;
  readonly #pending: PendingJob[] = [];
  readonly #idleShards: number[] = drawShards();
  readonly #faults = new Map<number, string>();
  readonly #stopped = new AbortController();
  #pendingVotes = 0;
  #delay: NodeJS.Timeout | undefined;
  #isStarting = false;

  constructor(options: CommitterOptions) {
    this.#options = options;
  }

  /**
   * Resolves once the job is committed, by this call or by an earlier one with the same key.
   *
   * @throws UncommittableError when Postgres rejects the job's data, or an operator has written the job off
   * @throws DeferredError when the job is to be submitted again later
   */
  submit(batch: ReceivedBatch): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#pending.push({ batch, since: performance.now(), resolve, reject });
      this.#pendingVotes += batch.votes.length;
      this.#schedule();
    });
  }

  /** Stops retrying. Jobs that are not committed stay in their queues; their promises never settle. */
  stop(): void {
    this.#stopped.abort();
  }

  /** Starts an idle lane: now if a group is due, else when it will be. */
  #schedule(): void {
    const [first] = this.#pending;
    if (!first || this.#isStarting || this.#idleShards.length === 0 || this.#stopped.signal.aborted) return;
    if (!this.#isDue) {
      this.#delay ??= setTimeout(
        () => {
          this.#delay = undefined;
          this.#schedule();
        },
        first.since + COMMIT_DELAY_MS_MAX - performance.now(),
      );
      return;
    }
    clearTimeout(this.#delay);
    this.#delay = undefined;
    this.#isStarting = true;
    // Yield so that every job of this event-loop turn joins the group.
    setImmediate(() => {
      this.#isStarting = false;
      this.#startLanes();
    });
  }

  get #isDue(): boolean {
    const [first] = this.#pending;
    if (!first) return false;
    const { isBehind } = this.#options;
    if (!isBehind || this.#pendingVotes >= VOTES_PER_COMMIT_MIN) return true;
    return performance.now() - first.since >= COMMIT_DELAY_MS_MAX || isBehind();
  }

  #startLanes(): void {
    while (this.#isDue) {
      const shard = this.#idleShards.pop();
      if (shard === undefined) return;
      void this.#runLane(shard);
    }
  }

  async #runLane(shard: number): Promise<void> {
    while (this.#isDue && !this.#stopped.signal.aborted) {
      await this.#commit(this.#nextGroup(), shard);
    }
    this.#idleShards.push(shard);
    this.#schedule();
  }

  /** Removes and returns the next group of pending jobs: at least one, and up to `VOTES_PER_COMMIT_MAX` votes. */
  #nextGroup(): PendingJob[] {
    let votes = 0;
    let jobs = 0;
    for (const { batch } of this.#pending) {
      if (jobs > 0 && votes + batch.votes.length > VOTES_PER_COMMIT_MAX) break;
      votes += batch.votes.length;
      jobs += 1;
    }
    this.#pendingVotes -= votes;
    return this.#pending.splice(0, jobs);
  }

  async #commit(jobs: readonly PendingJob[], shard: number): Promise<void> {
    const { commit, log, onCommit } = this.#options;
    const batches = jobs.map(({ batch }) => batch);
    for (let delayMs = RETRY_DELAY_MS_MIN; ; delayMs = Math.min(delayMs * 2, RETRY_DELAY_MS_MAX)) {
      const startedAt = performance.now();
      try {
        const result = await commit(batches, shard);
        this.#setFault(shard, undefined);
        onCommit?.(result, performance.now() - startedAt);
        const deferred = new Set(result.deferred);
        for (const job of jobs) settle(job, deferred, result.writtenOff);
        return;
      } catch (error) {
        const policy = retryPolicyFor(error);
        if (policy === 'permanent') {
          // Postgres responded, so it has recovered.
          this.#setFault(shard, undefined);
          return this.#bisect(jobs, shard, error);
        }
        if (policy === 'retry-now') {
          log.debug('commit lost a race, retrying', { error });
        } else {
          log.repeated('commit failed, retrying', { jobs: jobs.length, error });
          this.#setFault(shard, (error as Error).message);
        }
        this.#options.onRetry?.(policy === 'retry-now' ? 'race' : 'fault');
        const ms = policy === 'retry-now' ? Math.random() * RETRY_DELAY_MS_MIN : delayMs;
        const { signal } = this.#stopped;
        await sleep(ms, undefined, { signal }).catch(() => undefined);
        if (signal.aborted) return;
      }
    }
  }

  /** Bisects a group that Postgres rejects: fails the job at fault and commits all others. */
  async #bisect(jobs: readonly PendingJob[], shard: number, error: unknown): Promise<void> {
    if (jobs.length === 1) {
      this.#options.log.error('job rejected by Postgres', { error });
      for (const { reject } of jobs) reject(new UncommittableError((error as Error).message));
      return;
    }
    const middle = Math.ceil(jobs.length / 2);
    await this.#commit(jobs.slice(0, middle), shard);
    if (!this.#stopped.signal.aborted) await this.#commit(jobs.slice(middle), shard);
  }

  /** Records the fault of a lane, or its absence, and reports when the first appears and the last disappears. */
  #setFault(shard: number, fault: string | undefined): void {
    const hadFault = this.#faults.size > 0;
    if (fault) this.#faults.set(shard, fault);
    else this.#faults.delete(shard);
    const hasFault = this.#faults.size > 0;
    if (hasFault === hadFault) return;
    if (!hasFault) this.#options.log.info('commit recovered');
    this.#options.onFault?.(fault);
  }
}

/** Settles a job after its commit. One that was written off fails, so that its votes stay in the queue, visible. */
function settle(
  { batch, resolve, reject }: PendingJob,
  deferred: ReadonlySet<string>,
  writtenOff: CommitResult['writtenOff'],
): void {
  const key = jobKey(batch.source, batch.seq);
  const reason = writtenOff.get(key);
  if (deferred.has(key)) reject(new DeferredError('its poll is unknown until its node has been read'));
  else if (reason !== undefined)
    reject(new UncommittableError(`an operator has written the job off: ${reason}`));
  else resolve();
}

/** Returns a shard for each lane, all different: a lane's fault is reported under its shard. */
function drawShards(): number[] {
  const first = Math.floor(Math.random() * SHARDS);
  return Array.from({ length: LANES }, (_, lane) => (first + lane) % SHARDS);
}
