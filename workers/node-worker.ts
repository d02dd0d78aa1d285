import { DelayedError, type Job, UnrecoverableError } from 'bullmq';
import type { Redis } from 'ioredis';
import { JobVersionError, parseBatch, type ReceivedBatch } from '#job';
import { DeadlineError, withDeadline } from '#runtime/deadline.ts';
import type { Log } from '#runtime/log.ts';
import { connectFailingFast, type RedisAddress } from '#runtime/redis.ts';
import { DeferredError } from './committer.ts';
import { NodeRegistry } from './node-registry.ts';
import { QueueWorker } from './queue-worker.ts';

/** A job whose lock is not renewed for this long goes to another worker. Running it twice is harmless. */
const LOCK_MS = 10_000;
/** Effectively unlimited: a job is not failed because its workers died. */
const STALLS_MAX = 1_000_000;
/** How long a job is delayed whose node does not answer, or has not been read. */
const UNREAD_DELAY_MS = 1_000;
/** Sources known to be of this node: more than ever run on one between two connections. */
const OWNED_SOURCES_MAX = 1_000;
/** A worker with free capacity that fetches none of the waiting jobs for this long is hung. */
const HANG_MS = 15_000;

/** The job's source belongs to another node. Only a faulty or compromised handler writes such a job. */
class ForeignSourceError extends Error {
  override readonly name = 'ForeignSourceError';
}

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
  /** Jobs that some worker has fetched and not finished. */
  readonly activeJobs: number;
  readonly failedJobs: number;
  /** Age of the job at the head of the queue, or of one fetched or delayed before it; 0 when there is none. */
  readonly oldestJobMs: number;
  /** Bytes; `max` is 0 without a limit. */
  readonly memory: { readonly used: number; readonly max: number };
  readonly isPaused: boolean;
}

export interface NodeWorkerOptions {
  readonly address: RedisAddress;
  readonly concurrency: number;
  /** Commits a job, see `Committer.submit`. An error fails the job permanently. */
  readonly submit: (batch: ReceivedBatch) => Promise<void>;
  /** Called for each job whose source belongs to another node. */
  readonly onForeignJob: () => void;
  /** Called for each job whose worker lost its lock. */
  readonly onStalledJob: () => void;
  readonly log: Log;
  readonly timings: NodeTimings;
}

/** Drains the queue of one node, and probes node and worker over a connection of its own. */
export class NodeWorker {
  /** The node's keys beside its queue. */
  readonly registry: NodeRegistry;
  readonly #options: NodeWorkerOptions;
  readonly #probeRedis: Redis;
  #concurrency: number;
  #worker: QueueWorker;
  /** Sources whose jobs may be committed from this node's queue, as read over the present connection. */
  readonly #owned = new Set<string>();
  #activeJobs = 0;
  /** When the worker last made progress, or had no reason to. */
  #progressAt = performance.now();

  constructor(options: NodeWorkerOptions) {
    this.#options = options;
    this.#concurrency = options.concurrency;
    this.#probeRedis = connectFailingFast(options.address);
    // `probe` reports failures to its caller.
    this.#probeRedis.on('error', () => {});
    // After a new connection the address may be another node's.
    this.#probeRedis.on('close', () => this.#owned.clear());
    this.registry = new NodeRegistry(this.#probeRedis);
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
    const { address, timings } = this.#options;
    const what = `probing ${address.name}`;
    const report = await withDeadline(this.#read(), timings.probeMsMax, what).catch((error: unknown) => {
      // If the machine vanished without closing the connection, only a new connection detects its return.
      if (error instanceof DeadlineError) this.#probeRedis.disconnect(true);
      throw error;
    });
    this.#replaceIfHung(report);
    return report;
  }

  /** Stops fetching jobs and waits up to `msMax` for the active ones; the rest stay in the queue. */
  async stop(msMax: number): Promise<void> {
    this.#probeRedis.disconnect();
    await this.#worker.stop(msMax);
  }

  async #read(): Promise<NodeReport> {
    const [wait, active, delayed] = ['wait', 'active', 'delayed'].map((key) => this.#worker.toKey(key)) as [
      string,
      string,
      string,
    ];
    const replies = await this.#probeRedis
      .multi()
      .llen(wait)
      .zcard(delayed)
      .llen(active)
      .zcard(this.#worker.toKey('failed'))
      .hexists(this.#worker.toKey('meta'), 'paused')
      .info('memory')
      .time()
      .lrange(wait, -1, -1)
      .lrange(active, -1, -1)
      .zrange(delayed, '0', '0')
      .exec();
    const [waitingJobs, delayedJobs, activeJobs, failedJobs, paused, info, time, ...oldest] = (
      replies ?? []
    ).map(([error, reply]) => {
      if (error) throw error;
      return reply;
    });
    const [seconds, micros] = time as [string, string];
    return {
      waitingJobs: Number(waitingJobs),
      delayedJobs: Number(delayedJobs),
      activeJobs: Number(activeJobs),
      failedJobs: Number(failedJobs),
      oldestJobMs: await this.#ageOf(
        (oldest as string[][]).flat(),
        Number(seconds) * 1_000 + Number(micros) / 1_000,
      ),
      memory: readMemory(String(info)),
      isPaused: paused === 1,
    };
  }

  /** Returns how long ago the oldest of these jobs was added, by the clock of its node. */
  async #ageOf(jobs: readonly string[], nowMs: number): Promise<number> {
    const added = await Promise.all(
      jobs.map((id) => this.#probeRedis.hget(this.#worker.toKey(id), 'timestamp')),
    );
    // A job may have been committed since.
    const times = added.filter((time) => time !== null).map(Number);
    return times.length === 0 ? 0 : Math.max(0, nowMs - Math.min(...times));
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
    worker.on('stalled', () => this.#options.onStalledJob());
    worker.on('failed', (job, error) =>
      log.error('job failed permanently', { node: address.name, job: job?.id, reason: error.message }),
    );
    return worker;
  }

  async #process(job: Job, token?: string): Promise<void> {
    this.#activeJobs += 1;
    this.#progressAt = performance.now();
    try {
      const batch = parseBatch(job.data);
      const owns = await this.#owns(batch.source).catch((error: Error) => error);
      if (owns instanceof Error) return await this.#delay(job, token, owns, UNREAD_DELAY_MS);
      if (!owns) throw new ForeignSourceError(`the source ${batch.source} belongs to another node`);
      await this.#options.submit(batch);
    } catch (error) {
      if (error instanceof JobVersionError) {
        return await this.#delay(job, token, error, this.#options.timings.versionDelayMs);
      }
      if (error instanceof DeferredError) return await this.#delay(job, token, error, UNREAD_DELAY_MS);
      if (error instanceof ForeignSourceError) this.#options.onForeignJob();
      throw new UnrecoverableError((error as Error).message);
    } finally {
      this.#activeJobs -= 1;
      this.#progressAt = performance.now();
    }
  }

  async #owns(source: string): Promise<boolean> {
    if (this.#owned.has(source)) return true;
    const owns = await this.registry.owns(source);
    if (this.#owned.size >= OWNED_SOURCES_MAX) this.#owned.clear();
    if (owns) this.#owned.add(source);
    return owns;
  }

  /**
   * Delays a job without using up an attempt: a worker of another version must read it, or its node does not answer or has
   * not been read. It stays in the queue, visible and counted as pending.
   *
   * @throws DelayedError always, which makes BullMQ leave the job alone
   */
  async #delay(job: Job, token: string | undefined, reason: Error, ms: number): Promise<never> {
    const { address, log } = this.#options;
    log.repeated('job delayed', { node: address.name, job: job.id, reason: reason.message });
    // If the delay fails, the job stays active until its lock expires, and is then fetched again. Any other error would
    // fail it permanently.
    await job.moveToDelayed(Date.now() + ms, token).catch((error: unknown) => {
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

function readMemory(info: string): NodeReport['memory'] {
  const bytes = (name: string) => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(info)?.[1] ?? 0);
  return { used: bytes('used_memory'), max: bytes('maxmemory') };
}
