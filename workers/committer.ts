import type { CommitResult } from '#db/commit.ts';
import { retryPolicyFor } from '#db/errors.ts';
import type { ReceivedBatch } from '#job';
import type { Log } from '#runtime/log.ts';

/** A job whose data Postgres will never take, although it could be read. Trying again does not help. */
class UncommittableError extends Error {
  override readonly name = 'UncommittableError';
}

export interface CommitterOptions {
  /** Counts jobs in one transaction, see `commitBatches`. */
  readonly commit: (batches: readonly ReceivedBatch[], shard: number) => Promise<CommitResult>;
  readonly log: Log;
  /** Hears of every commit that succeeded. */
  readonly onCommit?: (result: CommitResult, ms: number) => void;
  /** Hears why nothing can be committed, and `undefined` when that is over. */
  readonly onFault?: (fault: string | undefined) => void;
}

/** Commits at the same time, each on its own connection and with its own shard. More do not help: they share a disk. */
export const LANES = 2;
/** One transaction takes jobs until it has this many votes; about 70 ms of work for Postgres. */
const VOTES_PER_COMMIT_MAX = 10_000;
/** Shards are drawn at random; two lanes with the same one wait for each other, which is slow but right. */
const SHARDS = 1_024;
const RETRY_DELAY_MS_MIN = 100;
const RETRY_DELAY_MS_MAX = 2_000;

interface Pending {
  readonly batch: ReceivedBatch;
  readonly resolve: () => void;
  readonly reject: (error: UncommittableError) => void;
}

/**
 * Group commit of jobs from all nodes: jobs that arrive while all lanes are busy wait and travel together.
 *
 * A lane: idle ──job──▶ committing ──done──▶ idle, or the next jobs
 *                         │    ▲
 *                  failed │    │ after a growing delay, the same jobs
 *                         ▼    │
 *                        waiting
 *
 * A fault that may pass keeps the lane's jobs in hand for as long as it takes: their locks are renewed meanwhile, no
 * attempt is used up, and since nothing is taken from the queues, the drain pauses by itself. How many jobs wait here is
 * bounded by the workers' concurrency, not by this class.
 */
export class Committer {
  readonly #options: CommitterOptions;
  readonly #pending: Pending[] = [];
  readonly #idleShards: number[] = Array.from({ length: LANES }, () => Math.floor(Math.random() * SHARDS));
  readonly #faults = new Map<number, string>();
  readonly #stopped = new AbortController();
  #isStarting = false;

  constructor(options: CommitterOptions) {
    this.#options = options;
  }

  /** Whether every lane is busy: then jobs wait for us, not we for jobs. */
  get isBusy(): boolean {
    return this.#idleShards.length === 0;
  }

  /**
   * Counts a job.
   *
   * @returns when it is committed; by this call, or by any earlier one under the same key
   * @throws UncommittableError when it can never be
   */
  submit(batch: ReceivedBatch): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#pending.push({ batch, resolve, reject });
      if (this.#isStarting || this.#idleShards.length === 0) return;
      this.#isStarting = true;
      // Not before all jobs that have arrived in this turn of the event loop are pending.
      setImmediate(() => {
        this.#isStarting = false;
        this.#startLanes();
      });
    });
  }

  /** Gives up waiting for a database that does not answer. Jobs in hand stay in their queues. */
  stop(): void {
    this.#stopped.abort();
  }

  #startLanes(): void {
    while (this.#pending.length > 0) {
      const shard = this.#idleShards.pop();
      if (shard === undefined) return;
      void this.#runLane(shard);
    }
  }

  async #runLane(shard: number): Promise<void> {
    while (this.#pending.length > 0 && !this.#stopped.signal.aborted) {
      await this.#commit(this.#take(), shard);
    }
    this.#idleShards.push(shard);
  }

  /** At least one job, and as many as fit. */
  #take(): Pending[] {
    let votes = 0;
    let jobs = 0;
    for (const { batch } of this.#pending) {
      if (jobs > 0 && votes + batch.votes.length > VOTES_PER_COMMIT_MAX) break;
      votes += batch.votes.length;
      jobs += 1;
    }
    return this.#pending.splice(0, jobs);
  }

  async #commit(jobs: readonly Pending[], shard: number): Promise<void> {
    const { commit, log, onCommit } = this.#options;
    const batches = jobs.map(({ batch }) => batch);
    for (let delayMs = RETRY_DELAY_MS_MIN; ; delayMs = Math.min(delayMs * 2, RETRY_DELAY_MS_MAX)) {
      const startedAt = performance.now();
      try {
        const result = await commit(batches, shard);
        this.#report(shard, undefined);
        onCommit?.(result, performance.now() - startedAt);
        for (const { resolve } of jobs) resolve();
        return;
      } catch (error) {
        const retryPolicy = retryPolicyFor(error);
        if (retryPolicy === 'give up') return this.#isolate(jobs, shard, error);
        if (retryPolicy === 'retry at once') {
          log.debug('lost a race for a commit', { error });
        } else {
          log.repeated('cannot commit, trying again', { jobs: jobs.length, error });
          this.#report(shard, (error as Error).message);
        }
        await this.#delay(retryPolicy === 'retry at once' ? Math.random() * RETRY_DELAY_MS_MIN : delayMs);
        if (this.#stopped.signal.aborted) return;
      }
    }
  }

  /** Something in these jobs cannot be stored. Halving finds out what, and commits all the rest. */
  async #isolate(jobs: readonly Pending[], shard: number, error: unknown): Promise<void> {
    if (jobs.length === 1) {
      this.#options.log.error('a job cannot be stored', { error });
      for (const { reject } of jobs) reject(new UncommittableError((error as Error).message));
      return;
    }
    const middle = Math.ceil(jobs.length / 2);
    await this.#commit(jobs.slice(0, middle), shard);
    if (!this.#stopped.signal.aborted) await this.#commit(jobs.slice(middle), shard);
  }

  #report(shard: number, fault: string | undefined): void {
    const hadFault = this.#faults.size > 0;
    if (fault) this.#faults.set(shard, fault);
    else this.#faults.delete(shard);
    const hasFault = this.#faults.size > 0;
    if (hasFault === hadFault) return;
    if (!hasFault) this.#options.log.info('commits again');
    this.#options.onFault?.(fault);
  }

  #delay(ms: number): Promise<void> {
    const { signal } = this.#stopped;
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      signal.addEventListener('abort', done);
    });
  }
}
