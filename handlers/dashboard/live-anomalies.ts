import type { AnomalyReport } from '#audit/anomalies.ts';
import { postgresFault } from '#audit/collect.ts';
import { DeadlineError, withDeadline } from '#runtime/deadline.ts';
import type { Log } from '#runtime/log.ts';

/** How long a report or its failure is shown before the next request reads the votes again. */
const KEPT_MS = 60_000;
/** Time limit of a report. The proxy waits 75 s for a response. */
export const ANOMALIES_MS_MAX = 30_000;
/** Covers the connection and the statements that are not about votes. */
const PAGE_MS_MAX = 40_000;

/** A report, or why there is none. */
export type AnomalyOutcome =
  | { readonly report: AnomalyReport }
  | { readonly fault: 'too slow' }
  | { readonly fault: 'Postgres'; readonly reason: string };

export interface LiveAnomaliesOptions {
  readonly collect: () => Promise<AnomalyReport>;
  readonly log: Log;
}

/** Reads the anomaly report on demand: one at a time, shared by all requests, and kept for a minute. */
export class LiveAnomalies {
  readonly #options: LiveAnomaliesOptions;
  #outcome: AnomalyOutcome | undefined;
  /** Monotonic. */
  #readAt = Number.NEGATIVE_INFINITY;
  #reading: Promise<AnomalyOutcome> | undefined;

  constructor(options: LiveAnomaliesOptions) {
    this.#options = options;
  }

  /** Returns a report that is at most a minute old, within 40 s. */
  latest(): Promise<AnomalyOutcome> {
    if (this.#outcome && performance.now() - this.#readAt < KEPT_MS) return Promise.resolve(this.#outcome);
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
    });
    return withDeadline(this.#reading, PAGE_MS_MAX, 'the report').catch((error) => this.#faultOf(error));
  }

  async #read(): Promise<AnomalyOutcome> {
    this.#outcome = await this.#options.collect().then(
      (report) => ({ report }),
      (error: unknown) => this.#faultOf(error),
    );
    this.#readAt = performance.now();
    return this.#outcome;
  }

  #faultOf(error: unknown): AnomalyOutcome {
    this.#options.log.repeated('anomaly report failed', { error });
    return error instanceof DeadlineError
      ? { fault: 'too slow' }
      : { fault: 'Postgres', reason: postgresFault(error) };
  }
}
