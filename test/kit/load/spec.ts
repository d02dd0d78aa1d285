/**
 * What a request is. `first`: a JSON vote without a token. `returning`: a JSON vote with the token of the connection's
 * last vote. `form`: the form that the page submits; the answer is a redirect. `page`: a browser opening the poll's page.
 */
export type RequestKind = 'first' | 'returning' | 'form' | 'page';

/** The request rate from `atSeconds` on, interpolated linearly up to the next point. */
export interface RatePoint {
  readonly atSeconds: number;
  readonly perSecond: number;
}

export interface Ballot {
  readonly poll: string;
  readonly choice: string;
}

export interface Target {
  readonly port: number;
  /** Default: 127.0.0.1. */
  readonly host?: string;
  /** The `Host` header; default: host and port. */
  readonly hostHeader?: string;
  readonly isTls?: boolean;
  /** Certificates to trust instead of the system's, in PEM. */
  readonly ca?: string;
  /** The address to connect from; default: the system's choice. */
  readonly localAddress?: string;
  /** What to vote for; default: `cats` in `cats-vs-dogs`. */
  readonly ballot?: Ballot;
}

/** The load to generate. */
export interface LoadSpec {
  readonly targets: readonly Target[];
  readonly kind: RequestKind;
  /** Connections over all targets; also the maximum number of requests in flight. */
  readonly connections: number;
  /** Number of the connections that are reopened for every request; default 0. */
  readonly shortLived?: number;
  /** Infinity: until the load is stopped. */
  readonly seconds: number;
  /**
   * Absent: a closed loop, in which every connection sends its next request once the last is answered. Present: an open
   * loop, in which requests are due at the times that these rates give, independent of earlier answers. Latency counts
   * from the time due, so that waiting for a free connection is part of it (no coordinated omission).
   */
  readonly rates?: readonly RatePoint[];
  /** Of an open loop: a request that has waited this long for a connection is not sent, and fails as `GAVE_UP`. */
  readonly patienceMs?: number;
  /** The length of the intervals of `LoadResult.intervals`; default: none are reported. */
  readonly intervalMs?: number;
}

/** The answer of a request that was not sent, see `patienceMs`. */
export const GAVE_UP = 'gave up';

/** Milliseconds. */
export interface Latency {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

/** Outcomes of the requests that were due in one interval; latencies in milliseconds. */
export interface Interval {
  readonly offered: number;
  readonly accepted: number;
  readonly refused: number;
  readonly failed: number;
  readonly p50: number;
  readonly p99: number;
}

export interface LoadResult {
  /** Until the last answer. */
  readonly seconds: number;
  /** Answered with 200, 202 or 303. */
  readonly accepted: number;
  /** Answered with 503. */
  readonly refused: number;
  /** Answered with another status, or not at all. */
  readonly failed: number;
  /** Requests sent before the time of the spec was over. */
  readonly sentInTime: number;
  /** Accepted answers that arrived before the time of the spec was over. */
  readonly acceptedInTime: number;
  /** Accepted requests with which connections were opened, before the load; they are part of no other number but `voters`. */
  readonly primed: number;
  /**
   * Distinct voters with an accepted vote: without a token, every vote is a new voter's. Of kind `returning`, the connections
   * that have a token.
   */
  readonly voters: number;
  /** Of accepted requests. */
  readonly latency: Latency;
  /** By status, or by the code of the error where there was no answer. */
  readonly answers: Readonly<Record<string, { readonly count: number; readonly latency: Latency }>>;
  readonly intervals: readonly Interval[];
}
