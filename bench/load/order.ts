/**
 * What voters send. `first`: JSON, nobody knows them yet. `returning`: JSON, with the token of their last vote. `form`:
 * what the page sends in a browser, and its answer is a redirect. `page`: a browser that opens the poll's page.
 */
export type RequestKind = 'first' | 'returning' | 'form' | 'page';

/** The rate from this moment on, changing evenly until the next one. */
export interface RatePoint {
  readonly atSeconds: number;
  readonly perSecond: number;
}

/** What the load shall do. */
export interface LoadOrder {
  readonly ports: readonly number[];
  readonly kind: RequestKind;
  /** Over all ports. At most so many requests are under way. */
  readonly connections: number;
  readonly seconds: number;
  /**
   * Without it every connection sends again as soon as it has its answer (closed loop). With it, requests are due at
   * the times that these rates give, whatever became of those before, and their latency counts from when they were
   * due, also when no connection was free then (open loop).
   */
  readonly rates?: readonly RatePoint[];
  /** Answers are also counted by intervals of this length. */
  readonly intervalMs?: number;
}

export interface Latency {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

/** What became of the requests that were due, or answered in a closed loop, in an interval; latencies in milliseconds. */
export interface Interval {
  readonly offered: number;
  readonly accepted: number;
  readonly refused: number;
  readonly failed: number;
  readonly p50: number;
  readonly p99: number;
}

export interface LoadResult {
  readonly seconds: number;
  readonly accepted: number;
  readonly refused: number;
  /** Other answers, and connections that broke. */
  readonly failed: number;
  /** Answered with 202, 303 or 200; in milliseconds. */
  readonly latency: Latency;
  readonly intervals: readonly Interval[];
}

/** The conversation between the bench and its load process. */
export type ToLoad = { readonly order: LoadOrder } | { readonly go: true };
export type FromLoad =
  | { readonly connected: true }
  | { readonly result: LoadResult }
  | { readonly error: string };
