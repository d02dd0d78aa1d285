import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { HISTORY_SECONDS } from '#db/history.ts';
import type { Results } from '#db/results.ts';
import {
  Feed,
  READ_INTERVAL_MS,
  READ_WAIT_MS_MAX,
  ResultsUnavailableError,
  type Snapshot,
} from '#handlers/results/feed.ts';
import { recordLog } from '#kit/log.ts';
import { someResults } from './results.ts';

type Outcome = Results | Error | Promise<Results>;

let outcome: Outcome;
let reads: number;
let historyReads: number;
let feed: Feed;
let lines: Record<string, unknown>[];

beforeEach(() => {
  vi.useFakeTimers();
  outcome = someResults();
  reads = 0;
  historyReads = 0;
  const recorded = recordLog();
  lines = recorded.lines;
  feed = new Feed({
    read: async () => {
      reads += 1;
      if (outcome instanceof Error) throw outcome;
      return outcome;
    },
    readHistory: async () => {
      historyReads += 1;
      return [{ at: 0, accepted: historyReads }];
    },
    log: recorded.log,
  });
});
afterEach(() => {
  feed.close();
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});

describe('a feed', () => {
  test('does not read without a call', async () => {
    await vi.advanceTimersByTimeAsync(10 * READ_INTERVAL_MS);
    expect(reads).toBe(0);
  });

  test('reads once for all calls within a second', async () => {
    await Promise.all(Array.from({ length: 100 }, () => feed.latest()));
    await vi.advanceTimersByTimeAsync(READ_INTERVAL_MS - 1);
    await feed.latest();
    expect(reads).toBe(1);
    await vi.advanceTimersByTimeAsync(1);
    await feed.latest();
    expect(reads).toBe(2);
  });

  test('reads the history as often as it grows', async () => {
    const accepted = async () => (await feed.latest()).history?.[0]?.accepted;
    expect(await accepted()).toBe(1);
    await vi.advanceTimersByTimeAsync(HISTORY_SECONDS * 1_000 - READ_INTERVAL_MS);
    expect(await accepted()).toBe(1);
    await vi.advanceTimersByTimeAsync(READ_INTERVAL_MS);
    expect(await accepted()).toBe(2);
  });

  test('continues when the clock is set back', async () => {
    await feed.latest();
    vi.setSystemTime(Date.now() - 3_600_000);
    await vi.advanceTimersByTimeAsync(READ_INTERVAL_MS);
    await feed.latest();
    expect(reads).toBe(2);
  });

  test('dates a snapshot at the start of its read', async () => {
    const asOf = Date.now();
    expect(await feed.latest()).toMatchObject({ results: someResults(), asOf, pace: null });
  });

  test('gives the votes accepted in a second lately', async () => {
    await feed.latest();
    await vi.advanceTimersByTimeAsync(10_000);
    outcome = someResults({ ledger: { accepted: 53, committed: 3 } });
    expect((await feed.latest()).pace).toBe(5);
  });

  test('waits for a fresh read after a pause', async () => {
    await feed.latest();
    await vi.advanceTimersByTimeAsync(60_000);
    outcome = someResults({ ledger: { accepted: 9, committed: 9 } });
    expect((await feed.latest()).results).toBe(outcome);
  });

  test('keeps the last snapshot and its time while reads fail', async () => {
    const snapshot = await feed.latest();
    outcome = new Error('no connection');
    await vi.advanceTimersByTimeAsync(5_000);
    expect(await feed.latest()).toBe(snapshot);
    expect(reads).toBe(2);
  });

  test('retries at most once a second while reads fail', async () => {
    outcome = new Error('no connection');
    for (let asked = 0; asked < 10; asked++) {
      await expect(feed.latest()).rejects.toThrow(ResultsUnavailableError);
    }
    expect(reads).toBe(1);
    await vi.advanceTimersByTimeAsync(READ_INTERVAL_MS);
    outcome = someResults();
    await feed.latest();
    expect(reads).toBe(2);
  });

  test('waits at most 2 s for a hung database', async () => {
    const snapshot = await feed.latest();
    await vi.advanceTimersByTimeAsync(READ_INTERVAL_MS);
    const { promise, resolve } = Promise.withResolvers<Results>();
    outcome = promise;
    const first = feed.latest();
    await vi.advanceTimersByTimeAsync(READ_WAIT_MS_MAX);
    expect(await first).toBe(snapshot);
    expect(await feed.latest()).toBe(snapshot);
    expect(reads).toBe(2);
    resolve(someResults());
    await vi.advanceTimersByTimeAsync(0);
  });

  test('logs missing tables in one line without an error', async () => {
    outcome = Object.assign(new Error('relation "polls" does not exist'), { code: '42P01' });
    await expect(feed.latest()).rejects.toThrow('relation "polls" does not exist');
    expect(lines).toEqual([
      expect.objectContaining({ message: 'waiting for a worker to migrate the schema' }),
    ]);
    expect(lines[0]).not.toHaveProperty('error');
  });
});

describe('a subscriber', () => {
  test('gets a new snapshot every second until it unsubscribes', async () => {
    const seen: Snapshot[] = [];
    const unsubscribe = feed.subscribe((snapshot) => seen.push(snapshot));
    await vi.advanceTimersByTimeAsync(3 * READ_INTERVAL_MS);
    expect(seen.length).toBe(3);
    unsubscribe();
    await vi.advanceTimersByTimeAsync(3 * READ_INTERVAL_MS);
    expect(seen.length).toBe(3);
    expect(reads).toBe(3);
  });

  test('causes no reads beyond those of others', async () => {
    const unsubscribes = Array.from({ length: 50 }, () => feed.subscribe(() => {}));
    for (let tenth = 0; tenth < 30; tenth++) {
      await feed.latest();
      await vi.advanceTimersByTimeAsync(100);
    }
    expect(reads).toBeLessThanOrEqual(4);
    for (const unsubscribe of unsubscribes) unsubscribe();
  });

  test('is not called after a failed read, but after the next successful one', async () => {
    const seen: Snapshot[] = [];
    outcome = new Error('no connection');
    const unsubscribe = feed.subscribe((snapshot) => seen.push(snapshot));
    await vi.advanceTimersByTimeAsync(2 * READ_INTERVAL_MS);
    expect(seen).toEqual([]);
    outcome = someResults();
    await vi.advanceTimersByTimeAsync(READ_INTERVAL_MS);
    expect(seen.length).toBe(1);
    unsubscribe();
  });
});
