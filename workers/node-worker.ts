import { DelayedError, type Job, UnrecoverableError } from 'bullmq';
import type { Redis } from 'ioredis';
import {
  JobVersionError,
  LEDGER_KEY,
  type LedgerEntry,
  parseBatch,
  type ReceivedBatch,
  readLedger,
} from '#job';
import { DeadlineError, withDeadline } from '#runtime/deadline.ts';
import type { Log } from '#runtime/log.ts';
import { connectFailingFast, type RedisAddress } from '#runtime/redis.ts';
import { QueueWorker } from './queue-worker.ts';

/** A job whose lock is not renewed for this long goes to another worker. Running it twice is harmless. */
const LOCK_MS = 15_000;
/** Effectively unlimited: a job is not failed because its workers died. */
const STALLS_MAX = 1_000_000;
/** A worker with free capacity that fetches none of the waiting jobs for this long is hung. */
const HANG_MS = 15_000;

/** Intervals and deadlines, which tests shorten. */
export interface NodeTimings {
  /** How long a job of another format version is delayed before a worker fetches it again. */
  readonly versionDelayMs: number;
  /** Interval at which BullMQ checks for jobs whose lock has expired. */
  readonly stalledCheckIntervalMs: number;
  /** Longest wait for the answer to a probe. */
  readonly probeMsMax: number;
}

/** State of a node at its last probe. */
export interface NodeReport {
  readonly waitingJobs: number;
  /** Jobs of another format version, which wait for a worker of that version. */
  readonly delayedJobs: number;
  readonly isPaused: boolean;
  /** By source; malformed entries are skipped. */
  readonly ledger: ReadonlyMap<string, LedgerEntry>;
}

export interface NodeWorkerOptions {
  readonly address: RedisAddress;
  readonly concurrency: number;
  /** Commits a job, see `Committer.submit`. An error fails the job permanently. */
  readonly submit: (batch: ReceivedBatch) => Promise<void>;
  readonly log: Log;
  readonly timings: NodeTimings;
}

/** Drains the queue of one node, and probes node and worker over a connection of its own. */
export class NodeWorker {
  readonly #options: NodeWorkerOptions;
  readonly #probeRedis: Redis;
  #concurrency: number;
  #worker: QueueWorker;
  #activeJobs = 0;
  /** When the worker last made progress, or had no reason to. */
  #progressAt = performance.now();

  constructor(options: NodeWorkerOptions) {
    this.#options = options;
    this.#concurrency = options.concurrency;
    this.#probeRedis = connectFailingFast(options.address);
    // `probe` reports failures to its caller.
    this.#probeRedis.on('error', () => {});
    this.#worker = this.#startWorker();
  }

  get activeJobs(): number {
    return this.#activeJobs;
  }

  /** Sets how many jobs of this node may be active at the same time. */
  set concurrency(jobs: number) {
    this.#concurrency = jobs;
    this.#worker.concurrency = jobs;
  }

  /**
   * Reads the node's state, and replaces the worker if it is hung.
   *
   * @throws when the node is unreachable
   */
  async probe(): Promise<NodeReport> {
    const pending = this.#probeRedis
      .multi()
      .llen(this.#worker.toKey('wait'))
      .zcard(this.#worker.toKey('delayed'))
      .hexists(this.#worker.toKey('meta'), 'paused')
      .hgetall(LEDGER_KEY)
      .exec();
    const { address, timings } = this.#options;
    const what = `probing ${address.name}`;
    const replies = await withDeadline(pending, timings.probeMsMax, what).catch((error: unknown) => {
      // If the machine vanished without closing the connection, only a new connection detects its return.
      if (error instanceof DeadlineError) this.#probeRedis.disconnect(true);
      throw error;
    });
    const [waiting, delayed, paused, fields] = (replies ?? []).map(([error, reply]) => {
      if (error) throw error;
      return reply;
    });
    const report = {
      waitingJobs: Number(waiting),
      delayedJobs: Number(delayed),
      isPaused: paused === 1,
      ledger: readLedger(fields as Record<string, string>),
    };
    this.#replaceIfHung(report);
    return report;
  }

  /** Stops fetching jobs and waits up to `msMax` for the active ones; the rest stay in the queue. */
  async stop(msMax: number): Promise<void> {
    this.#probeRedis.disconnect();
    await this.#worker.stop(msMax);
  }

  #startWorker(): QueueWorker {
    const { address, timings, log } = this.#options;
    const worker = new QueueWorker(address, (job, token) => this.#process(job, token), {
      concurrency: this.#concurrency,
      lockDuration: LOCK_MS,
      stalledInterval: timings.stalledCheckIntervalMs,
      maxStalledCount: STALLS_MAX,
      removeOnComplete: { count: 0 },
    });
    worker.on('error', (error) => log.repeated('worker error', { node: address.name, error }));
    worker.on('failed', (job, error) =>
      log.error('job failed permanently', { node: address.name, job: job?.id, reason: error.message }),
    );
    return worker;
  }

  async #process(job: Job, token?: string): Promise<void> {
    this.#activeJobs += 1;
    this.#progressAt = performance.now();
    try {
      await this.#options.submit(parseBatch(job.data));
    } catch (error) {
      if (error instanceof JobVersionError) return await this.#delay(job, token, error);
      throw new UnrecoverableError((error as Error).message);
    } finally {
      this.#activeJobs -= 1;
      this.#progressAt = performance.now();
    }
  }

  /**
   * Delays a job that a worker of another version must read, without using up an attempt. It stays in the queue, visible
   * and counted as pending.
   *
   * @throws DelayedError always, which makes BullMQ leave the job alone
   */
  async #delay(job: Job, token: string | undefined, reason: JobVersionError): Promise<never> {
    const { address, timings, log } = this.#options;
    log.repeated('job delayed', { node: address.name, job: job.id, reason: reason.message });
    // If the delay fails, the job stays active until its lock expires, and is then fetched again. Any other error would
    // fail it permanently.
    await job.moveToDelayed(Date.now() + timings.versionDelayMs, token).catch((error: unknown) => {
      log.repeated('job not delayed', { node: address.name, job: job.id, error });
    });
    throw new DelayedError();
  }

  #replaceIfHung({ waitingJobs, isPaused }: NodeReport): void {
    const now = performance.now();
    if (waitingJobs === 0 || isPaused || this.#activeJobs >= this.#concurrency) this.#progressAt = now;
    if (now - this.#progressAt < HANG_MS) return;
    const { log, address } = this.#options;
    log.warn('worker hung, replacing it', { node: address.name, waitingJobs });
    this.#progressAt = now;
    void this.#worker.stop(0);
    this.#worker = this.#startWorker();
  }
}
