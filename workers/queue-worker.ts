import { type Job, Worker, type WorkerOptions } from 'bullmq';
import { Redis, type RedisOptions } from 'ioredis';
import { QUEUE_NAME } from '#job';
import { withDeadline } from '#runtime/deadline.ts';
import { connectionOptions, type RedisAddress } from '#runtime/redis.ts';

/**
 * A Redis client that also disconnects its duplicates. BullMQ duplicates the client it is given for the command that
 * waits for jobs, and offers no way to disconnect that duplicate while Redis is unreachable.
 */
class DuplicatedRedis extends Redis {
  readonly #duplicates: Redis[] = [];

  override duplicate(override?: Partial<RedisOptions>): Redis {
    const duplicate = super.duplicate(override);
    this.#duplicates.push(duplicate);
    return duplicate;
  }

  disconnectAll(): void {
    for (const connection of [this, ...this.#duplicates]) connection.disconnect();
  }
}

/** A BullMQ worker on the queue of one node that stops within a deadline and survives jobs that are not JSON. */
export class QueueWorker extends Worker {
  readonly #redis: DuplicatedRedis;

  constructor(
    address: RedisAddress,
    processJob: (job: Job, token?: string) => Promise<void>,
    options: Omit<WorkerOptions, 'connection'>,
  ) {
    const redis = new DuplicatedRedis({
      ...connectionOptions(address),
      replyMapping: 'legacy',
      maxRetriesPerRequest: null,
    });
    // The client reconnects by itself. Without a listener ioredis prints every failed attempt.
    redis.on('error', () => {});
    super(QUEUE_NAME, processJob, { ...options, connection: redis });
    this.#redis = redis;
  }

  /**
   * Stops fetching jobs, waits up to `msMax` for the active ones, and disconnects. Jobs that are then still active stay
   * locked until their locks expire.
   */
  async stop(msMax: number): Promise<void> {
    const closed = this.close(msMax === 0).catch(() => undefined);
    await withDeadline(closed, msMax, 'closing a worker').catch(() => undefined);
    // `close` itself waits for Redis while it is unreachable.
    this.#redis.disconnectAll();
  }

  /** Turns data that is not JSON into `null`, which fails as unreadable. BullMQ would fetch such a job again and again. */
  protected override createJob(...[data, jobId]: Parameters<Worker['createJob']>): Job {
    try {
      return super.createJob(data, jobId);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      return super.createJob({ ...data, data: 'null' }, jobId);
    }
  }
}
