import { type Job, UnrecoverableError, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { LEDGER_KEY, type LedgerEntry, parseBatch, QUEUE_NAME, type ReceivedBatch, readLedger } from '#job';
import { DeadlineError, withDeadline } from '#runtime/deadline.ts';
import type { Log } from '#runtime/log.ts';
import { connectFailingFast, connectionOptions, type RedisAddress } from '#runtime/redis.ts';

/** A job whose worker has not renewed its lock for so long is given to another one. Counting it twice is harmless. */
const LOCK_MS = 15_000;
const STALLED_CHECK_INTERVAL_MS = 5_000;
/** A job may lose its worker any number of times: that says nothing against the job. */
const STALLS_MAX = 1_000_000;
const PROBE_MS_MAX = 2_000;
/** Jobs wait, hands are free, and yet none was taken for so long: the worker hangs. */
const HANG_MS = 15_000;

/** What a node said when it was asked. */
export interface NodeReport {
  readonly waitingJobs: number;
  readonly isPaused: boolean;
  /** By source; entries that cannot be read are left out. */
  readonly ledger: ReadonlyMap<string, LedgerEntry>;
}

export interface NodeOptions {
  readonly address: RedisAddress;
  readonly concurrency: number;
  /** Counts a job; see `Committer.submit`. An error fails the job for good. */
  readonly count: (batch: ReceivedBatch) => Promise<void>;
  readonly log: Log;
}

/** A worker, and all its connections: the one for commands and its copy that waits for jobs. */
interface RunningWorker {
  readonly worker: Worker;
  readonly connections: readonly Redis[];
}

/** Reads jobs whose data is not even JSON; BullMQ's own worker would stumble over them again and again. */
class TolerantWorker extends Worker {
  protected override createJob(...[data, jobId]: Parameters<Worker['createJob']>): Job {
    try {
      return super.createJob(data, jobId);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      return super.createJob({ ...data, data: 'null' }, jobId);
    }
  }
}

/**
 * Drains the queue of one node: a BullMQ worker, and a second connection that looks whether the node lives and the
 * worker works.
 */
export class NodeWorker {
  readonly #options: NodeOptions;
  readonly #probe: Redis;
  #concurrency: number;
  #running: RunningWorker;
  #jobsInHand = 0;
  #activeAt = performance.now();

  constructor(options: NodeOptions) {
    this.#options = options;
    this.#concurrency = options.concurrency;
    this.#probe = connectFailingFast(options.address);
    // Every failed attempt is an event; `ask` tells the caller what it needs to know.
    this.#probe.on('error', () => {});
    this.#running = this.#startWorker();
  }

  get jobsInHand(): number {
    return this.#jobsInHand;
  }

  /** How many jobs of this node may be in hand at the same time. */
  set concurrency(jobs: number) {
    this.#concurrency = jobs;
    this.#running.worker.concurrency = jobs;
  }

  /**
   * Asks the node how it is, and replaces the worker if it hangs.
   *
   * @throws when the node does not answer
   */
  async ask(): Promise<NodeReport> {
    const { worker } = this.#running;
    const question = this.#probe
      .multi()
      .llen(worker.toKey('wait'))
      .hexists(worker.toKey('meta'), 'paused')
      .hgetall(LEDGER_KEY)
      .exec();
    const answers = await withDeadline(question, PROBE_MS_MAX, `asking ${this.#options.address.name}`).catch(
      (error: unknown) => {
        // The machine may be gone without a word. Then only a new connection finds out when it is back.
        if (error instanceof DeadlineError) this.#probe.disconnect(true);
        throw error;
      },
    );
    const [waiting, paused, fields] = (answers ?? []).map(([error, answer]) => {
      if (error) throw error;
      return answer;
    });
    const report = {
      waitingJobs: Number(waiting),
      isPaused: paused === 1,
      ledger: readLedger(fields as Record<string, string>),
    };
    this.#replaceIfHanging(report);
    return report;
  }

  /** Finishes the jobs in hand, if that takes no longer than `msMax`; the others stay in the queue. */
  async close(msMax: number): Promise<void> {
    this.#probe.disconnect();
    await stopWorker(this.#running, msMax);
  }

  #startWorker(): RunningWorker {
    const { address, log } = this.#options;
    const connection = new Redis({
      ...connectionOptions(address),
      replyMapping: 'legacy',
      maxRetriesPerRequest: null,
    });
    const connections = [connection];
    const duplicate = connection.duplicate.bind(connection);
    connection.duplicate = (...args) => {
      const copy = duplicate(...args);
      connections.push(copy);
      return copy;
    };
    const worker = new TolerantWorker(QUEUE_NAME, (job) => this.#process(job), {
      connection,
      concurrency: this.#concurrency,
      lockDuration: LOCK_MS,
      stalledInterval: STALLED_CHECK_INTERVAL_MS,
      maxStalledCount: STALLS_MAX,
      removeOnComplete: { count: 0 },
    });
    // Without a listener the process would end: a node that is down is an everyday event.
    connection.on('error', () => {});
    worker.on('error', (error) => log.repeated('a worker reports an error', { node: address.name, error }));
    worker.on('failed', (job, error) =>
      log.error('a job failed for good', { node: address.name, job: job?.id, reason: error.message }),
    );
    return { worker, connections };
  }

  async #process(job: Job): Promise<void> {
    this.#jobsInHand += 1;
    this.#activeAt = performance.now();
    try {
      await this.#options.count(parseBatch(job.data));
    } catch (error) {
      throw new UnrecoverableError((error as Error).message);
    } finally {
      this.#jobsInHand -= 1;
      this.#activeAt = performance.now();
    }
  }

  #replaceIfHanging({ waitingJobs, isPaused }: NodeReport): void {
    const now = performance.now();
    if (waitingJobs === 0 || isPaused || this.#jobsInHand >= this.#concurrency) this.#activeAt = now;
    if (now - this.#activeAt < HANG_MS) return;
    const { log, address } = this.#options;
    log.warn('a worker hangs and is replaced', { node: address.name, waitingJobs });
    this.#activeAt = now;
    void stopWorker(this.#running, 0);
    this.#running = this.#startWorker();
  }
}

/** Jobs still in hand when the time is over are in nobody's hand then; a worker takes them when their locks run out. */
async function stopWorker({ worker, connections }: RunningWorker, msMax: number): Promise<void> {
  const closed = worker.close(msMax === 0).catch(() => undefined);
  await withDeadline(closed, msMax, 'closing a worker').catch(() => undefined);
  // BullMQ waits for a Redis that is away to come back before it lets go of it.
  for (const connection of connections) connection.disconnect();
}
