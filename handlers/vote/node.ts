import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import {
  APPLIED_KEY,
  FENCED_KEY,
  formatApplied,
  formatLedgerEntry,
  IMAGES_KEY,
  isNodeId,
  LEDGER_KEY,
  NODE_KEY,
  POLLS_KEY,
  sourceName,
} from '#job';
import type { Log } from '#runtime/log.ts';
import type { PollBook } from './polls.ts';

/** Twice a second, so that a change of a poll is applied within a second. */
export const READ_INTERVAL_MS = 500;
const ENROLMENT_CHECK_INTERVAL_MS = 250;

export const NOT_ENROLLED = 'the node is not enrolled yet: it needs a worker and Postgres once';

export interface Registration {
  /** A connection that fails fast, see `connectFailingFast`. */
  readonly redis: Redis;
  /** The name of the node's host. */
  readonly nodeName: string;
  /** Distinguishes this process from all others of the node, see `sourceName`. */
  readonly epoch: string;
  /** Why Redis cannot be used now; `undefined` when it can be. */
  readonly fault: () => string | undefined;
  /** Called with the reason of each wait. */
  readonly onWait: (reason: string) => void;
  readonly log: Log;
}

/**
 * Waits until the node's Redis is usable and the node is enrolled, then registers this process as a source of votes.
 * Waits without a limit; the process is not ready meanwhile.
 *
 * The source must be in the ledger before the polls are read. A worker first stores a poll as closed, and in the same
 * transaction reads the ledger, for the proof that the poll's count is complete. So a source that it does not see will
 * read the poll as closed.
 *
 * @returns the source
 */
export async function registerSource(registration: Registration): Promise<string> {
  const { fault, onWait } = registration;
  for (;;) {
    const outcome = fault() ?? (await tryRegister(registration));
    if (typeof outcome !== 'string') return outcome.source;
    onWait(outcome);
    await sleep(ENROLMENT_CHECK_INTERVAL_MS);
  }
}

/** Returns the source, or the reason why it could not be registered. */
async function tryRegister(registration: Registration): Promise<string | { readonly source: string }> {
  const { redis, nodeName, epoch, log } = registration;
  try {
    const id = await redis.get(NODE_KEY);
    if (!isNodeId(id)) {
      log.repeated('node not enrolled, waiting');
      return NOT_ENROLLED;
    }
    const source = sourceName(nodeName, id, epoch);
    const entry = formatLedgerEntry({ seq: 0, votes: 0 });
    const [idThen] = await readAll(redis.multi().get(NODE_KEY).hsetnx(LEDGER_KEY, source, entry));
    if (idThen === id) return { source };
    // Workers no longer read the sources of the id that the node had.
    log.warn('node id changed, registering again', { before: id, after: idThen });
    return 'the node is being enrolled anew';
  } catch (error) {
    log.repeated('source not registered, retrying', { error });
    return `the source cannot be registered (${(error as Error).message})`;
  }
}

export interface NodeReaderOptions {
  readonly redis: Redis;
  readonly source: string;
  /** Receives the polls. */
  readonly polls: Pick<PollBook, 'addImage' | 'apply' | 'applied' | 'latch' | 'missingImages'>;
  readonly log: Log;
  /** Called twice a second, after a read or instead of one that fails. */
  readonly onTick: () => void;
  /** Called when the source is fenced. */
  readonly onFenced: () => void;
}

/**
 * Reads the polls, their images and the source's fence from the node's Redis, twice a second, and after a change of any poll
 * records there which revisions it has applied. A read that fails changes nothing; polls still close by the clock.
 */
export class NodeReader {
  readonly #options: NodeReaderOptions;
  #timer: NodeJS.Timeout | undefined;
  #isReading = false;
  #recorded: PollBook['applied'] | undefined;

  constructor(options: NodeReaderOptions) {
    this.#options = options;
  }

  /** Resolves after the first read. Waits without a limit: the process is not ready meanwhile. */
  async start(): Promise<void> {
    while (!(await this.#read())) await sleep(READ_INTERVAL_MS);
    this.#timer ??= setInterval(() => void this.#tick(), READ_INTERVAL_MS);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async #tick(): Promise<void> {
    // While Redis hangs, one unanswered read is enough; it returns the polls of the time at which it is answered.
    if (!this.#isReading) await this.#read();
    this.#options.polls.latch();
    this.#options.onTick();
    await this.#record();
  }

  /** Records what has been applied since the last time. Only operators read it, so a failure is left to the next tick. */
  async #record(): Promise<void> {
    const { redis, source, polls, log } = this.#options;
    const { applied } = polls;
    const before = this.#recorded;
    if (applied === before) return;
    this.#recorded = applied;
    try {
      await redis.hset(APPLIED_KEY, source, formatApplied(applied));
    } catch (error) {
      this.#recorded = before;
      log.repeated('applied revisions not recorded, retrying', { error });
    }
  }

  /** Returns whether Redis answered. */
  async #read(): Promise<boolean> {
    const { redis, source, polls, log, onFenced } = this.#options;
    this.#isReading = true;
    try {
      const answers = await readAll(
        redis.multi().sismember(FENCED_KEY, source).hexists(LEDGER_KEY, source).hgetall(POLLS_KEY),
      );
      if (isFenced(answers)) onFenced();
      polls.apply(answers[2] as Record<string, string>);
      await this.#readImages();
      return true;
    } catch (error) {
      log.repeated('polls not read, retrying', { error });
      return false;
    } finally {
      this.#isReading = false;
    }
  }

  /** Polls accept votes without their images, so a failure is left to the next read. */
  async #readImages(): Promise<void> {
    const { redis, polls, log } = this.#options;
    const names = polls.missingImages;
    if (names.length === 0) return;
    try {
      const images = await redis.hmgetBuffer(IMAGES_KEY, ...names);
      for (const [index, name] of names.entries()) {
        const bytes = images[index];
        // A worker stores it after its poll.
        if (bytes) polls.addImage(name, new Uint8Array(bytes));
      }
    } catch (error) {
      log.repeated('images not read, retrying', { error });
    }
  }
}

/**
 * Whether the answers to `SISMEMBER turnout:fenced` and `HEXISTS turnout:ledger` mean that the source is fenced. Workers remove
 * both entries of a fenced source once all its votes are in Postgres.
 */
export function isFenced([isInSet, hasLedgerEntry]: readonly unknown[]): boolean {
  return isInSet === 1 || hasLedgerEntry === 0;
}

/**
 * Returns the answers of a transaction. Waits as long as the connection lasts, so that at most one transaction of each
 * caller waits for a Redis that hangs.
 *
 * @throws the first error in it
 */
async function readAll(transaction: ReturnType<Redis['multi']>): Promise<unknown[]> {
  const answers = (await transaction.exec()) ?? [];
  const failure = answers.find(([error]) => error !== null)?.[0];
  if (failure) throw failure;
  return answers.map(([, value]) => value);
}
