import { quantile } from '#kit/quantile.ts';
import type { Interval, Latency, LoadResult } from './order.ts';

const ACCEPTED = new Set([200, 202, 303]);
const REFUSED = 503;

interface Bucket {
  offered: number;
  accepted: number;
  refused: number;
  failed: number;
  readonly latencies: number[];
}

/** Keeps what became of requests, all of it, so that no percentile is an estimate. */
export class Recorder {
  readonly #intervalMs: number;
  readonly #buckets: Bucket[] = [];

  /** @param intervalMs the length of an interval; Infinity for one that holds all */
  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs;
  }

  /** @param atMs when the request was due, from the beginning of the load */
  add(atMs: number, status: number, latencyMs: number): void {
    const bucket = this.#bucketAt(atMs);
    bucket.offered += 1;
    if (ACCEPTED.has(status)) {
      bucket.accepted += 1;
      bucket.latencies.push(latencyMs);
    } else if (status === REFUSED) bucket.refused += 1;
    else bucket.failed += 1;
  }

  result(seconds: number): LoadResult {
    const total = (count: (bucket: Bucket) => number): number =>
      this.#buckets.reduce((sum, bucket) => sum + count(bucket), 0);
    return {
      seconds,
      accepted: total(({ accepted }) => accepted),
      refused: total(({ refused }) => refused),
      failed: total(({ failed }) => failed),
      latency: latencyOf(this.#buckets.flatMap(({ latencies }) => latencies)),
      intervals: Number.isFinite(this.#intervalMs) ? this.#buckets.map(intervalOf) : [],
    };
  }

  #bucketAt(atMs: number): Bucket {
    const place = Number.isFinite(this.#intervalMs) ? Math.floor(atMs / this.#intervalMs) : 0;
    while (this.#buckets.length <= place) {
      this.#buckets.push({ offered: 0, accepted: 0, refused: 0, failed: 0, latencies: [] });
    }
    return this.#buckets[place] as Bucket;
  }
}

function intervalOf({ offered, accepted, refused, failed, latencies }: Bucket): Interval {
  const { p50, p99 } = latencyOf(latencies);
  return { offered, accepted, refused, failed, p50, p99 };
}

/** Zeros when there was no answer: JSON knows no NaN. */
function latencyOf(latencies: readonly number[]): Latency {
  if (latencies.length === 0) return { p50: 0, p99: 0, p999: 0, max: 0 };
  const sorted = Float64Array.from(latencies).sort();
  const at = (share: number): number => quantile(sorted, share);
  return { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1) };
}
