import { Job, Queue, type RedisQueueBackend } from 'bullmq';
import type { Redis } from 'ioredis';
import {
  encodeBatch,
  FENCED_KEY,
  formatLedgerEntry,
  formatSeal,
  JOB_NAME,
  jobKey,
  LEDGER_KEY,
  QUEUE_NAME,
  SEALED_KEY,
  sealField,
} from '#job';
import type { Log } from '#runtime/log.ts';
import { FencedError, type Sink, type SinkWrite } from './capture.ts';
import { isFenced } from './node.ts';

/** Redis settings without which an acknowledged vote may not survive a power failure. */
const REQUIRED_SETTINGS: Readonly<Record<string, string>> = {
  appendonly: 'yes',
  appendfsync: 'always',
  // `yes` suspends fsync while Redis rewrites the file.
  'no-appendfsync-on-rewrite': 'no',
  'maxmemory-policy': 'noeviction',
};
/**
 * The commands of a write, as they stand in the append-only file. Redis replays that file as its default user, even where
 * that user cannot log in, and skips what the default user may not do. The jobs would then be lost.
 */
const WRITTEN_COMMANDS: readonly (readonly string[])[] = [
  ['HSETNX', LEDGER_KEY, 'source', '0:0'],
  ['HSET', LEDGER_KEY, 'source', '1:1'],
  ['HSET', SEALED_KEY, 'source/poll', '1:1'],
  ['HSET', `bull:${QUEUE_NAME}:id`, 'data', '{}'],
  ['LPUSH', `bull:${QUEUE_NAME}:wait`, 'id'],
  ['DEL', `bull:${QUEUE_NAME}:id`],
];
const DEFAULT_USER = 'default';
/** The share of `maxmemory` above which votes are refused, because workers need memory to drain the jobs. */
export const MEMORY_SHARE_MAX = 0.9;
const MEMORY_CHECK_INTERVAL_MS = 500;
const SETTINGS_CHECK_RETRY_MS = 1_000;
/** Settings can change while Redis runs. */
const SETTINGS_CHECK_INTERVAL_MS = 5_000;
/** Nothing reads BullMQ's event stream, so it is kept as short as BullMQ allows. */
const EVENTS_KEPT_MAX = 10;

/** A write of which Redis refused at least one part. */
class WriteRefusedError extends Error {
  override readonly name = 'WriteRefusedError';
}

/**
 * Writes votes to the BullMQ queue on the node's own Redis.
 *
 *   connecting ──connected, durable settings──▶ open ──connection lost──▶ connecting
 *              ──connected, other settings────▶ unfit ──settings fixed──▶ open
 *   open ──settings changed──▶ unfit ──connection lost──▶ connecting
 */
export class VoteQueue implements Sink {
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

  /** @param redis a connection that fails fast, see `connectFailingFast`; closed by `close` */
  constructor(redis: Redis, log: Log) {
    this.#redis = redis;
    this.#log = log;
    this.#queue = this.#openQueue();
    redis.on('ready', () => void this.#checkSettings());
    redis.on('close', () => this.#enter('connecting', 'the queue is not connected'));
    if (redis.status === 'ready') void this.#checkSettings();
    this.#memoryCheck = setInterval(() => void this.#checkMemory(), MEMORY_CHECK_INTERVAL_MS);
    this.#settingsRecheck = setInterval(() => void this.#recheckSettings(), SETTINGS_CHECK_INTERVAL_MS);
  }

  /** Why writes are impossible now; `undefined` when they are possible. */
  get fault(): string | undefined {
    return this.#state.fault ?? this.#memoryFault;
  }

  /** Calls `onFault` now and after each change of `fault`. */
  watch(onFault: (fault: string | undefined) => void): void {
    this.#onFault = onFault;
    onFault(this.fault);
  }

  async write({ source, batches, ledger, seals }: SinkWrite): Promise<void> {
    // Full memory refuses new votes, in `Capture`; numbered jobs are still written.
    if (this.#state.fault) throw new WriteRefusedError(this.#state.fault);
    const backend: RedisQueueBackend = this.#queue.getBackend();
    const client = await backend.client;
    // MULTI makes the write atomic in the append-only file too: a crash leaves all of it or nothing. The fence comes first,
    // because this very write would restore a missing ledger entry.
    const transaction = client.multi();
    transaction.runCommand('sismember', [FENCED_KEY, source]);
    transaction.runCommand('hexists', [LEDGER_KEY, source]);
    for (const batch of batches) {
      const key = jobKey(batch.source, batch.seq);
      const job = new Job(this.#queue, JOB_NAME, encodeBatch(batch), {}, key);
      // Only queued here; `exec` returns the outcome.
      void backend.addJobToTransaction(transaction, job.asJSON(), key);
    }
    transaction.hset(LEDGER_KEY, { [source]: formatLedgerEntry(ledger) });
    if (seals.length > 0) {
      const fields = seals.map((seal) => [sealField(source, seal.poll), formatSeal(seal)]);
      transaction.hset(SEALED_KEY, Object.fromEntries(fields));
    }
    const results = await transaction.exec();
    if (results && isFenced(results.map(([, value]) => value))) throw new FencedError();
    const failure = results?.find(([error]) => error !== null)?.[0];
    // After SCRIPT FLUSH every retry would fail; a new connection loads the scripts again.
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
    queue.on('error', (error) => this.#log.repeated('queue error', { error }));
    return queue;
  }

  #enter(name: 'connecting' | 'unfit' | 'open', fault: string | undefined): void {
    const before = this.fault;
    this.#state = { name, fault };
    this.#report(before);
  }

  #report(before: string | undefined): void {
    if (this.fault === before) return;
    if (this.fault) this.#log.warn('refusing votes', { reason: this.fault });
    else this.#log.info('accepting votes');
    this.#onFault(this.fault);
  }

  async #checkSettings(): Promise<void> {
    clearTimeout(this.#settingsRetry);
    try {
      await this.#untilQueueReady();
      const fault = await this.#durabilityFault();
      this.#enter(fault ? 'unfit' : 'open', fault);
      if (!fault) return;
    } catch (error) {
      if (this.#redis.status !== 'ready') return;
      this.#enter('unfit', `the queue's Redis does not report its settings (${(error as Error).message})`);
    }
    this.#settingsRetry = setTimeout(() => void this.#checkSettings(), SETTINGS_CHECK_RETRY_MS);
  }

  async #recheckSettings(): Promise<void> {
    if (this.#state.name !== 'open') return;
    const fault = await this.#durabilityFault().catch(() => undefined);
    if (fault && this.#state.name === 'open') await this.#checkSettings();
  }

  async #untilQueueReady(): Promise<void> {
    const queue = this.#queue;
    try {
      await queue.waitUntilReady();
    } catch (error) {
      // BullMQ never recovers when the connection breaks during its version check.
      if (queue === this.#queue) {
        this.#queue = this.#openQueue();
        void queue.close().catch(() => undefined);
      }
      throw error;
    }
  }

  /** Why this Redis could lose an acknowledged vote; `undefined` when it is durable. */
  async #durabilityFault(): Promise<string | undefined> {
    const wrong = [...(await this.#settingsFaults()), ...(await this.#replayFaults())];
    return wrong.length === 0 ? undefined : `the queue's Redis is not durable: ${wrong.join('; ')}`;
  }

  /** Reads one setting at a time: Redis before 7 accepts no more per command. */
  async #settingsFaults(): Promise<string[]> {
    const wrong: string[] = [];
    for (const [name, required] of Object.entries(REQUIRED_SETTINGS)) {
      const [, actual] = (await this.#redis.config('GET', name)) as [string, string];
      if (actual !== required) wrong.push(`${name} is ${actual}, must be ${required}`);
    }
    return wrong;
  }

  /** Returns why Redis could not replay the writes. For the default user, a successful write is the proof. */
  async #replayFaults(): Promise<string[]> {
    if ((this.#redis.options.username ?? DEFAULT_USER) === DEFAULT_USER) return [];
    const answers = await Promise.all(
      WRITTEN_COMMANDS.map((command) => this.#redis.call('ACL', 'DRYRUN', DEFAULT_USER, ...command)),
    );
    const refusal = answers.find((answer) => answer !== 'OK');
    return refusal === undefined ? [] : [`its default user cannot replay the append-only file (${refusal})`];
  }

  async #checkMemory(): Promise<void> {
    if (this.#state.name !== 'open') return;
    try {
      const info = await this.#redis.info('memory');
      const used = Number(/^used_memory:(\d+)/m.exec(info)?.[1]);
      const max = Number(/^maxmemory:(\d+)/m.exec(info)?.[1]);
      const before = this.fault;
      this.#memoryFault =
        max > 0 && used > max * MEMORY_SHARE_MAX ? "the queue's memory is nearly full" : undefined;
      this.#report(before);
    } catch {
      // The connection broke; the handlers of `close` and `ready` take over.
    }
  }
}
