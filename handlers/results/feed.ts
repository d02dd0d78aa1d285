import type { Results } from '#db/results.ts';
import { withDeadline } from '#runtime/deadline.ts';
import type { Log } from '#runtime/log.ts';

/** The results are read no more often than this, however many ask. */
export const READ_INTERVAL_MS = 1_000;
/** Nobody waits longer than this for a read; then there is the last snapshot, or none. */
export const READ_WAIT_MS_MAX = 2_000;

/** SQLSTATE of a table that is not there: the workers have not made the schema yet. */
const UNDEFINED_TABLE = '42P01';

/** The results at one moment; `asOf` is milliseconds since 1970, taken before they were read. */
export interface Snapshot {
  readonly results: Results;
  readonly asOf: number;
}

/** No snapshot was ever read, so there is nothing to show. It may pass: trying again helps. */
export class ResultsUnavailableError extends Error {
  override readonly name = 'ResultsUnavailableError';
}

export interface FeedOptions {
  readonly read: () => Promise<Results>;
  readonly log: Log;
  /** Hears how each read ended. */
  readonly onRead?: (outcome: 'read' | 'failed') => void;
}

/**
 * Lets any number of viewers look at the results for one query a second.
 *
 *   idle ──somebody asks, or a second is over and somebody listens──▶ reading ──▶ idle
 *
 * One read is under way at a time, a new one starts at the earliest a second after the last one started, and none
 * starts unless somebody asks or listens. A read that fails changes nothing: viewers keep the last snapshot, whose
 * `asOf` says how old it is.
 */
export class Feed {
  readonly #options: FeedOptions;
  readonly #listeners = new Set<(snapshot: Snapshot) => void>();
  #snapshot: Snapshot | undefined;
  /** By a clock that nobody sets, as are all waits here; `asOf` is for the viewers. */
  #snapshotAt = Number.NEGATIVE_INFINITY;
  #reading: Promise<void> | undefined;
  #startedAt = Number.NEGATIVE_INFINITY;
  #lastFault = 'not read yet';
  #timer: NodeJS.Timeout | undefined;

  constructor(options: FeedOptions) {
    this.#options = options;
  }

  /** The last snapshot, however old it is. */
  get last(): Snapshot | undefined {
    return this.#snapshot;
  }

  /**
   * A snapshot that is at most a second old, or the newest there is when the database does not answer in time.
   *
   * @throws ResultsUnavailableError when there has never been one
   */
  async latest(): Promise<Snapshot> {
    if (this.#snapshot && performance.now() - this.#snapshotAt < READ_INTERVAL_MS) return this.#snapshot;
    const reading = this.#reading ?? (this.#mayStart() ? this.#start() : undefined);
    const waitMs = this.#startedAt + READ_WAIT_MS_MAX - performance.now();
    // Counted from the start of the read: of those who come later, none waits for a database that hangs.
    if (reading && waitMs > 0) await withDeadline(reading, waitMs, 'a read').catch(() => undefined);
    if (this.#snapshot) return this.#snapshot;
    throw new ResultsUnavailableError(`the results cannot be read (${this.#lastFault})`);
  }

  /** Calls back with every new snapshot from now on. Returns the way to stop that. */
  subscribe(listener: (snapshot: Snapshot) => void): () => void {
    this.#listeners.add(listener);
    this.#keepReading();
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.close();
    };
  }

  /** Stops reading for listeners; a read under way ends by itself. */
  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #keepReading(): void {
    this.#timer ??= setTimeout(
      () => {
        this.#timer = undefined;
        if (!this.#reading && this.#mayStart()) void this.#start();
        this.#keepReading();
      },
      Math.max(1, this.#startedAt + READ_INTERVAL_MS - performance.now()),
    );
  }

  #mayStart(): boolean {
    return performance.now() - this.#startedAt >= READ_INTERVAL_MS;
  }

  #start(): Promise<void> {
    this.#startedAt = performance.now();
    this.#reading = this.#read().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #read(): Promise<void> {
    const { read, log, onRead } = this.#options;
    const startedAt = this.#startedAt;
    const asOf = Date.now();
    try {
      this.#snapshot = { results: await read(), asOf };
      this.#snapshotAt = startedAt;
      onRead?.('read');
    } catch (error) {
      onRead?.('failed');
      this.#lastFault = (error as Error).message;
      if ((error as { code?: unknown }).code === UNDEFINED_TABLE) {
        log.repeated('waiting for the workers to make the tables');
      } else {
        log.repeated('the results cannot be read', { error });
      }
      return;
    }
    for (const listener of this.#listeners) listener(this.#snapshot);
  }
}
