import { Job, Queue, type RedisQueueBackend } from 'bullmq';
import type { Redis } from 'ioredis';
import {
  type Batch,
  formatLedgerEntry,
  JOB_NAME,
  jobKey,
  LEDGER_KEY,
  type LedgerEntry,
  QUEUE_NAME,
} from '#job';
import type { Log } from '#runtime/log.ts';
import type { Sink } from './capture.ts';

/** A 202 promises that the vote survives a power failure; only a Redis with these settings can keep that promise. */
const REQUIRED_SETTINGS: Readonly<Record<string, string>> = {
  appendonly: 'yes',
  appendfsync: 'always',
  // Else no write is synced while Redis rewrites its file.
  'no-appendfsync-on-rewrite': 'no',
  'maxmemory-policy': 'noeviction',
};
/**
 * What a transaction of ours consists of, in its file as well. Redis reads that file as its default user, also where
 * nobody can log in as that one; what the default user may not do is skipped then, and jobs would be gone.
 */
const WRITTEN_COMMANDS: readonly (readonly string[])[] = [
  ['HSET', LEDGER_KEY, 'source', '1:1'],
  ['HSET', `bull:${QUEUE_NAME}:id`, 'data', '{}'],
  ['LPUSH', `bull:${QUEUE_NAME}:wait`, 'id'],
  ['DEL', `bull:${QUEUE_NAME}:id`],
];
const DEFAULT_USER = 'default';
/** The share of `maxmemory` from which on votes are refused: the workers need room to take the jobs out. */
export const MEMORY_SHARE_MAX = 0.9;
const MEMORY_CHECK_INTERVAL_MS = 500;
const SETTINGS_CHECK_RETRY_MS = 1_000;
/** Somebody may change the settings of a Redis that runs. */
const SETTINGS_CHECK_INTERVAL_MS = 5_000;
/** Jobs added are news to nobody: the stream of events is kept as short as BullMQ allows. */
const EVENTS_KEPT_MAX = 10;

/** A write of which at least one part was refused. */
class WriteRefusedError extends Error {
  override readonly name = 'WriteRefusedError';
}

/**
 * The node's own queue, as the place where votes are captured.
 *
 *   connecting ──ready, settings right──▶ open ──connection lost──▶ connecting
 *                └─settings wrong──▶ unfit ◀─settings changed─ open
 *                                     unfit ──settings mended──▶ open
 */
export class VoteQueue implements Sink {
  readonly #source: string;
  readonly #redis: Redis;
  readonly #log: Log;
  #queue: Queue;
  readonly #memoryCheck: NodeJS.Timeout;
  readonly #settingsRecheck: NodeJS.Timeout;
  #settingsRetry: NodeJS.Timeout | undefined;
  #state: { name: 'connecting' | 'unfit' | 'open'; fault: string | undefined } = {
    name: 'connecting',
    fault: 'the queue is not connected',
  };
  #memoryFault: string | undefined;
  #onFault: (fault: string | undefined) => void = () => {};

  /**
   * @param redis a connection that fails fast, see `connectFailingFast`; closed by `close`
   * @param source the ledger entry that writes belong to
   */
  constructor(redis: Redis, source: string, log: Log) {
    this.#redis = redis;
    this.#source = source;
    this.#log = log;
    this.#queue = this.#openQueue();
    redis.on('ready', () => void this.#checkSettings());
    redis.on('close', () => this.#enter('connecting', 'the queue is not connected'));
    if (redis.status === 'ready') void this.#checkSettings();
    this.#memoryCheck = setInterval(() => void this.#checkMemory(), MEMORY_CHECK_INTERVAL_MS);
    this.#settingsRecheck = setInterval(() => void this.#recheckSettings(), SETTINGS_CHECK_INTERVAL_MS);
  }

  get fault(): string | undefined {
    return this.#state.fault ?? this.#memoryFault;
  }

  /** Calls back now and whenever `fault` has changed. */
  watch(onFault: (fault: string | undefined) => void): void {
    this.#onFault = onFault;
    onFault(this.fault);
  }

  async write(batches: readonly Batch[], ledger: LedgerEntry): Promise<void> {
    if (this.#state.fault) throw new WriteRefusedError(this.#state.fault);
    const backend: RedisQueueBackend = this.#queue.getBackend();
    const client = await backend.client;
    // MULTI makes jobs and ledger one unit on disk too: after a crash there is all of it or nothing.
    const transaction = client.multi();
    for (const batch of batches) {
      const key = jobKey(batch.source, batch.seq);
      const job = new Job(this.#queue, JOB_NAME, batch, {}, key);
      // Queued in the transaction at once; the answer comes from `exec`.
      void backend.addJobToTransaction(transaction, job.asJSON(), key);
    }
    transaction.hset(LEDGER_KEY, { [this.#source]: formatLedgerEntry(ledger) });
    const results = await transaction.exec();
    const failure = results?.find(([error]) => error !== null)?.[0];
    // A Redis whose script cache was flushed would refuse for ever: a new connection loads the scripts anew.
    if (failure?.message.startsWith('NOSCRIPT')) this.#redis.disconnect(true);
    if (!results || failure) throw new WriteRefusedError(failure?.message ?? 'the transaction was aborted');
  }

  async close(): Promise<void> {
    clearInterval(this.#memoryCheck);
    clearInterval(this.#settingsRecheck);
    clearTimeout(this.#settingsRetry);
    await this.#queue.close().catch(() => undefined);
    this.#redis.disconnect();
  }

  #openQueue(): Queue {
    const queue = new Queue(QUEUE_NAME, {
      connection: this.#redis,
      streams: { events: { maxLen: EVENTS_KEPT_MAX } },
    });
    queue.on('error', (error) => this.#log.repeated('the queue reports an error', { error }));
    return queue;
  }

  #enter(name: 'connecting' | 'unfit' | 'open', fault: string | undefined): void {
    const before = this.fault;
    this.#state = { name, fault };
    this.#report(before);
  }

  #report(before: string | undefined): void {
    if (this.fault === before) return;
    if (this.fault) this.#log.warn('votes are refused', { reason: this.fault });
    else this.#log.info('votes are taken');
    this.#onFault(this.fault);
  }

  async #checkSettings(): Promise<void> {
    clearTimeout(this.#settingsRetry);
    try {
      await this.#untilQueueReady();
      const unsafe = await this.#unsafe();
      this.#enter(unsafe ? 'unfit' : 'open', unsafe);
      if (!unsafe) return;
    } catch (error) {
      if (this.#redis.status !== 'ready') return;
      this.#enter('unfit', `the queue's Redis does not tell its settings (${(error as Error).message})`);
    }
    this.#settingsRetry = setTimeout(() => void this.#checkSettings(), SETTINGS_CHECK_RETRY_MS);
  }

  async #recheckSettings(): Promise<void> {
    if (this.#state.name !== 'open') return;
    const unsafe = await this.#unsafe().catch(() => undefined);
    if (unsafe && this.#state.name === 'open') await this.#checkSettings();
  }

  async #untilQueueReady(): Promise<void> {
    const queue = this.#queue;
    try {
      await queue.waitUntilReady();
    } catch (error) {
      // BullMQ never recovers from a connection that broke while it asked for the version.
      if (queue === this.#queue) {
        this.#queue = this.#openQueue();
        void queue.close().catch(() => undefined);
      }
      throw error;
    }
  }

  /** Why this Redis could lose what it has taken; `undefined` when it could not. */
  async #unsafe(): Promise<string | undefined> {
    const wrong = [...(await this.#wrongSettings()), ...(await this.#wrongRules())];
    return wrong.length === 0 ? undefined : `the queue's Redis is not safe: ${wrong.join('; ')}`;
  }

  /** Asks for one setting at a time: older servers answer only one. */
  async #wrongSettings(): Promise<string[]> {
    const wrong: string[] = [];
    for (const [name, required] of Object.entries(REQUIRED_SETTINGS)) {
      const [, actual] = (await this.#redis.config('GET', name)) as [string, string];
      if (actual !== required) wrong.push(`${name} is ${actual}, must be ${required}`);
    }
    return wrong;
  }

  /** Whether Redis could read again what we write. Who writes as the default user has seen that it may. */
  async #wrongRules(): Promise<string[]> {
    if ((this.#redis.options.username ?? DEFAULT_USER) === DEFAULT_USER) return [];
    const answers = await Promise.all(
      WRITTEN_COMMANDS.map((command) => this.#redis.call('ACL', 'DRYRUN', DEFAULT_USER, ...command)),
    );
    const refusal = answers.find((answer) => answer !== 'OK');
    return refusal === undefined ? [] : [`its default user reads the file and may not write (${refusal})`];
  }

  async #checkMemory(): Promise<void> {
    if (this.#state.name !== 'open') return;
    try {
      const info = await this.#redis.info('memory');
      const used = Number(/^used_memory:(\d+)/m.exec(info)?.[1]);
      const max = Number(/^maxmemory:(\d+)/m.exec(info)?.[1]);
      const before = this.fault;
      this.#memoryFault = max > 0 && used > max * MEMORY_SHARE_MAX ? "the queue's memory is full" : undefined;
      this.#report(before);
    } catch {
      // The connection broke: `close` and `ready` tell the rest.
    }
  }
}
