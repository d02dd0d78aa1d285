import { isUndefinedTable } from '#db/errors.ts';
import { HISTORY_SECONDS, type HistoryPoint } from '#db/history.ts';
import type { Results } from '#db/results.ts';
import { withDeadline } from '#runtime/deadline.ts';
import type { Log } from '#runtime/log.ts';
import { Pace } from './pace.ts';

/** Shortest interval between reads, for any number of viewers. */
export const READ_INTERVAL_MS = 1_000;
/** Longest wait for a read; after it viewers get the last snapshot, or an error. */
export const READ_WAIT_MS_MAX = 2_000;

/** The results at one moment; `asOf` is the time before the read, in milliseconds since 1970. */
export interface Snapshot {
  readonly results: Results;
  readonly asOf: number;
  /** Votes accepted in a second lately, in all polls; null until that is known. */
  readonly pace?: number | null;
  /** See `db/history.ts`; up to `HISTORY_SECONDS` older than the results. */
  readonly history?: readonly HistoryPoint[];
}

/** No snapshot has been read yet. A retry may succeed. */
export class ResultsUnavailableError extends Error {
  override readonly name = 'ResultsUnavailableError';
}

export interface FeedOptions {
  readonly read: () => Promise<Results>;
  readonly readHistory: () => Promise<readonly HistoryPoint[]>;
  readonly log: Log;
  /** Called with the outcome of each read. */
  readonly onRead?: (outcome: 'read' | 'failed') => void;
}

/**
 * Serves any number of viewers from at most one query per second.
 *
 *   idle ──call of latest(), or a second passed and there are subscribers──▶ reading ──▶ idle
 *
 * At most one read is in flight, reads start at least a second apart, and none starts without a call or a subscriber. After
 * a failed read viewers keep the last snapshot; its `asOf` shows its age.
 */
export class Feed {
  readonly #options: FeedOptions;
  readonly #listeners = new Set<(snapshot: Snapshot) => void>();
  readonly #pace = new Pace();
  #history: readonly HistoryPoint[] = [];
  #historyAt = Number.NEGATIVE_INFINITY;
  #snapshot: Snapshot | undefined;
  /** Monotonic, as are all waits here. */
  #snapshotAt = Number.NEGATIVE_INFINITY;
  #reading: Promise<void> | undefined;
  #startedAt = Number.NEGATIVE_INFINITY;
  #lastFault = 'not read yet';
  #timer: NodeJS.Timeout | undefined;

  constructor(options: FeedOptions) {
    this.#options = options;
  }

  /** The last snapshot, of any age. */
  get last(): Snapshot | undefined {
    return this.#snapshot;
  }

  /**
   * Returns a snapshot that is at most a second old, or the last one if the database is slow or down.
   *
   * @throws ResultsUnavailableError when there is none
   */
  async latest(): Promise<Snapshot> {
    if (this.#snapshot && performance.now() - this.#snapshotAt < READ_INTERVAL_MS) return this.#snapshot;
    const reading = this.#reading ?? (this.#mayStart() ? this.#start() : undefined);
    const waitMs = this.#startedAt + READ_WAIT_MS_MAX - performance.now();
    // The deadline counts from the start of the read, so later callers do not wait for a hung database.
    if (reading && waitMs > 0) await withDeadline(reading, waitMs, 'a read').catch(() => undefined);
    if (this.#snapshot) return this.#snapshot;
    throw new ResultsUnavailableError(`results unavailable (${this.#lastFault})`);
  }

  /** Calls back with every new snapshot. Returns a function that unsubscribes. */
  subscribe(listener: (snapshot: Snapshot) => void): () => void {
    this.#listeners.add(listener);
    this.#keepReading();
    return () => {
      this.#listeners.delete(listener);
      if (this.#listeners.size === 0) this.close();
    };
  }

  /** Stops reading for subscribers; a read in flight completes. */
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
    const { read, readHistory, log, onRead } = this.#options;
    const startedAt = this.#startedAt;
    const asOf = Date.now();
    try {
      const results = await read();
      if (startedAt - this.#historyAt >= HISTORY_SECONDS * 1_000) {
        this.#history = await readHistory();
        this.#historyAt = startedAt;
      }
      const pace = this.#pace.add(startedAt, results.ledger.accepted);
      this.#snapshot = { results, asOf, pace, history: this.#history };
      this.#snapshotAt = startedAt;
      onRead?.('read');
    } catch (error) {
      onRead?.('failed');
      this.#lastFault = (error as Error).message;
      if (isUndefinedTable(error)) {
        log.repeated('waiting for a worker to migrate the schema');
      } else {
        log.repeated('results not readable', { error });
      }
      return;
    }
    for (const listener of this.#listeners) listener(this.#snapshot);
  }
}
