import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { CommitResult } from '#db/commit.ts';
import type { ReceivedBatch } from '#job';
import { recordLog } from '#kit/log.ts';
import { until } from '#kit/until.ts';
import { vote } from '#kit/votes.ts';
import { Committer, DeferredError, LANES } from '#workers/committer.ts';

const RESULT: CommitResult = {
  jobs: 1,
  counted: 0,
  changed: 0,
  superseded: 0,
  rejected: 0,
  duplicates: 0,
  discarded: 0,
  deferred: [],
  writtenOff: new Map(),
};

afterEach(() => {
  vi.restoreAllMocks();
});

test('lanes have different shards, whatever is drawn', async () => {
  vi.spyOn(Math, 'random').mockReturnValue(0.999_999);
  const shards: number[] = [];
  let finish = (): void => {};
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const committer = new Committer({
    log: recordLog().log,
    commit: async (_, shard) => {
      shards.push(shard);
      await finished;
      return RESULT;
    },
  });
  const submitted: Promise<void>[] = [];
  for (let seq = 1; seq <= LANES; seq++) {
    submitted.push(committer.submit(batch(seq)));
    await until(`lane ${seq} commits`, () => shards.length === seq);
  }
  expect(new Set(shards).size).toBe(LANES);
  finish();
  await Promise.all(submitted);
});

test('a deferred job is to be submitted again, the others of its group are committed', async () => {
  const committer = new Committer({
    log: recordLog().log,
    commit: async () => ({ ...RESULT, deferred: ['one.t0-1.2'] }),
  });
  const outcomes = await Promise.allSettled([1, 2, 3].map((seq) => committer.submit(batch(seq))));
  expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  expect(outcomes[1]).toMatchObject({ reason: expect.any(DeferredError) });
});

describe('a committer that keeps up', () => {
  let isBehind = false;
  let groups: number[];
  let committer: Committer;

  beforeEach(() => {
    vi.useFakeTimers();
    isBehind = false;
    groups = [];
    committer = new Committer({
      log: recordLog().log,
      isBehind: () => isBehind,
      commit: async (batches) => {
        groups.push(batches.length);
        return RESULT;
      },
    });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  const submit = (seq: number, votes = 1) => committer.submit(batch(seq, votes));

  test('commits 200 ms after the first job, with all jobs since then', async () => {
    void submit(1);
    await vi.advanceTimersByTimeAsync(199);
    void submit(2);
    await vi.advanceTimersByTimeAsync(0);
    expect(groups).toEqual([]);
    await vi.advanceTimersByTimeAsync(2);
    expect(groups).toEqual([2]);
    void submit(3);
    await vi.advanceTimersByTimeAsync(199);
    expect(groups).toEqual([2]);
    await vi.advanceTimersByTimeAsync(2);
    expect(groups).toEqual([2, 1]);
  });

  test('commits at once with 5,000 votes', async () => {
    void submit(1, 4_999);
    await vi.advanceTimersByTimeAsync(1);
    expect(groups).toEqual([]);
    void submit(2, 1);
    await vi.advanceTimersByTimeAsync(1);
    expect(groups).toEqual([2]);
  });

  test('commits at once while jobs wait in a queue', async () => {
    isBehind = true;
    void submit(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(groups).toEqual([1]);
  });

  test('commits nothing after it was stopped', async () => {
    void submit(1);
    committer.stop();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(groups).toEqual([]);
  });
});

test('reports a recovery when Postgres rejects the job that it could not commit before', async () => {
  const errors = [new Error('connection lost'), Object.assign(new Error('bad value'), { code: '22021' })];
  const faults: (string | undefined)[] = [];
  const committer = new Committer({
    log: recordLog().log,
    commit: () => Promise.reject(errors.shift()),
    onFault: (reason) => void faults.push(reason),
  });
  await expect(committer.submit(batch(1))).rejects.toThrow('bad value');
  expect(faults).toEqual(['connection lost', undefined]);
});

test('fails a job that was written off with the reason, and none beside it', async () => {
  const writtenOff = new Map([['one.t0-1.2', 'its data is damaged']]);
  const committer = new Committer({
    log: recordLog().log,
    commit: async () => ({ ...RESULT, writtenOff }),
  });
  const [counted, late] = await Promise.allSettled([committer.submit(batch(1)), committer.submit(batch(2))]);
  expect(counted).toMatchObject({ status: 'fulfilled' });
  expect(late).toMatchObject({
    status: 'rejected',
    reason: { message: 'an operator has written the job off: its data is damaged' },
  });
});

function batch(seq: number, votes = 0): ReceivedBatch {
  return { source: 'one.t0-1', seq, votes: Array.from({ length: votes }, () => vote(seq, 'cats', 0)) };
}
