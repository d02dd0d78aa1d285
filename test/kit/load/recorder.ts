import { quantile } from '../quantile.ts';
import { GAVE_UP, type Interval, type Latency, type LoadResult } from './spec.ts';

const ACCEPTED = new Set(['200', '202', '303']);
const REFUSED = '503';

/** One request; times in milliseconds from the start of the load. */
export interface RequestRecord {
  readonly dueMs: number;
  readonly sentMs: number;
  readonly answeredMs: number;
  /** The status, or the code of an error. */
  readonly answer: string;
}

/** Records every request, so that percentiles are exact. */
export class Recorder {
  readonly #endMs: number;
  readonly #records: RequestRecord[] = [];

  /** @param endMs when the load ends and only answers are outstanding */
  constructor(endMs: number) {
    this.#endMs = endMs;
  }

  get count(): number {
    return this.#records.length;
  }

  /** Returns whether the request was accepted. */
  add(record: RequestRecord): boolean {
    this.#records.push(record);
    return isAccepted(record);
  }

  /** @param seconds until the last answer */
  result(seconds: number, intervalMs?: number): Omit<LoadResult, 'primed' | 'voters'> {
    const { p50: _p50, p99: _p99, offered: _offered, ...totals } = summarize(this.#records);
    const accepted = this.#records.filter(isAccepted);
    const answers = Map.groupBy(this.#records, ({ answer }) => answer);
    return {
      seconds,
      ...totals,
      sentInTime: this.#records.filter(({ sentMs, answer }) => answer !== GAVE_UP && sentMs <= this.#endMs)
        .length,
      acceptedInTime: accepted.filter(({ answeredMs }) => answeredMs <= this.#endMs).length,
      latency: latencyOf(accepted),
      answers: Object.fromEntries(
        [...answers].map(([answer, own]) => [answer, { count: own.length, latency: latencyOf(own) }]),
      ),
      intervals: intervalMs === undefined ? [] : intervalsOf(this.#records, intervalMs),
    };
  }
}

/** @param answer the status, or the code of an error */
export function isAcceptedAnswer(answer: string): boolean {
  return ACCEPTED.has(answer);
}

function isAccepted({ answer }: RequestRecord): boolean {
  return isAcceptedAnswer(answer);
}

function intervalsOf(records: readonly RequestRecord[], intervalMs: number): Interval[] {
  const byIndex = Map.groupBy(records, ({ dueMs }) => Math.floor(dueMs / intervalMs));
  const count = Math.max(-1, ...byIndex.keys()) + 1;
  return Array.from({ length: count }, (_, index) => summarize(byIndex.get(index) ?? []));
}

function summarize(records: readonly RequestRecord[]): Interval {
  const accepted = records.filter(isAccepted);
  const refused = records.filter(({ answer }) => answer === REFUSED).length;
  const { p50, p99 } = latencyOf(accepted);
  return {
    offered: records.length,
    accepted: accepted.length,
    refused,
    failed: records.length - accepted.length - refused,
    p50,
    p99,
  };
}

/** Returns zeros for no records, because JSON has no NaN. */
function latencyOf(records: readonly RequestRecord[]): Latency {
  if (records.length === 0) return { p50: 0, p99: 0, p999: 0, max: 0 };
  const sorted = Float64Array.from(records, ({ dueMs, answeredMs }) => answeredMs - dueMs).sort();
  const at = (share: number): number => quantile(sorted, share);
  return { p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1) };
}
