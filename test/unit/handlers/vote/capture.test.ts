import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Capture, NotCapturedError, type Sink } from '#handlers/vote/capture.ts';
import type { Batch, LedgerEntry } from '#job';
import { recordLog } from '#kit/log.ts';
import { vote } from '#kit/votes.ts';
import { CAPTURE_MS_MAX } from '#runtime/capture-limits.ts';

/** A sink whose writes the test completes. */
class ManualSink implements Sink {
  fault: string | undefined;
  readonly writes: {
    readonly batches: readonly Batch[];
    readonly ledger: LedgerEntry;
    readonly succeed: () => void;
    readonly fail: () => void;
  }[] = [];

  write(batches: readonly Batch[], ledger: LedgerEntry): Promise<void> {
    return new Promise((resolve, reject) => {
      this.writes.push({
        batches,
        ledger,
        succeed: resolve,
        fail: () => reject(new Error('connection lost')),
      });
    });
  }

  get last() {
    const write = this.writes.at(-1);
    if (!write) throw new Error('nothing was written');
    return write;
  }
}

let sink: ManualSink;

/** Runs pending promises and `setImmediate` callbacks. */
const settle = () => vi.advanceTimersByTimeAsync(0);

function createCapture(options: { votesPerJobMax?: number; bufferVotesMax?: number } = {}): Capture {
  const { votesPerJobMax = 500, bufferVotesMax = 1_000 } = options;
  return new Capture({ source: 'node.t0-1', sink, log: recordLog().log, votesPerJobMax, bufferVotesMax });
}

/** Captures votes of voters 0, 1, …; returns their outcomes, filled in as they settle. */
function captureMany(capture: Capture, count: number) {
  const outcomes: (string | Error | undefined)[] = Array.from({ length: count }, () => undefined);
  for (let index = 0; index < count; index++) {
    capture.capture(vote(index, 'cats', index)).then(
      (receipt) => {
        outcomes[index] = receipt;
      },
      (error: Error) => {
        outcomes[index] = error;
      },
    );
  }
  return outcomes;
}

beforeEach(() => {
  vi.useFakeTimers();
  sink = new ManualSink();
});
afterEach(() => {
  vi.useRealTimers();
});

describe('when idle', () => {
  test('writes a vote at once and resolves only after the write', async () => {
    const outcomes = captureMany(createCapture(), 1);
    await settle();
    expect(sink.writes).toHaveLength(1);
    expect(sink.last.batches).toEqual([{ source: 'node.t0-1', seq: 1, votes: [vote(0, 'cats', 0)] }]);
    expect(outcomes).toEqual([undefined]);

    sink.last.succeed();
    await settle();
    expect(outcomes).toEqual(['node.t0-1.1']);
  });
});

describe('while a write is in flight', () => {
  test('queues votes and writes them together, in the order of arrival', async () => {
    const capture = createCapture();
    captureMany(capture, 1);
    await settle();
    const outcomes = captureMany(capture, 3);
    await settle();
    expect(sink.writes).toHaveLength(1);

    sink.last.succeed();
    await settle();
    expect(sink.writes).toHaveLength(2);
    expect(sink.last.batches.map(({ seq, votes }) => [seq, votes])).toEqual([
      [2, [vote(0, 'cats', 0), vote(1, 'cats', 1), vote(2, 'cats', 2)]],
    ]);
    sink.last.succeed();
    await settle();
    expect(outcomes).toEqual(['node.t0-1.2', 'node.t0-1.2', 'node.t0-1.2']);
  });

  test('splits votes into jobs of at most votesPerJobMax, under one ledger entry', async () => {
    captureMany(createCapture({ votesPerJobMax: 2 }), 5);
    await settle();
    expect(sink.last.batches.map(({ seq, votes }) => [seq, votes.length])).toEqual([
      [1, 2],
      [2, 2],
      [3, 1],
    ]);
    expect(sink.last.ledger).toEqual({ seq: 3, votes: 5 });
  });

  test('gives each vote its own job when votesPerJobMax is 1', async () => {
    const outcomes = captureMany(createCapture({ votesPerJobMax: 1 }), 3);
    await settle();
    sink.last.succeed();
    await settle();
    expect(outcomes).toEqual(['node.t0-1.1', 'node.t0-1.2', 'node.t0-1.3']);
  });

  test('writes running totals of jobs and votes to the ledger', async () => {
    const capture = createCapture();
    captureMany(capture, 2);
    await settle();
    sink.last.succeed();
    await settle();
    captureMany(capture, 3);
    await settle();
    expect(sink.last.ledger).toEqual({ seq: 2, votes: 5 });
  });

  test('refuses votes beyond the buffer at once, and keeps the rest', async () => {
    const capture = createCapture({ votesPerJobMax: 5, bufferVotesMax: 5 });
    captureMany(capture, 1);
    await settle();
    const outcomes = captureMany(capture, 7);
    await settle();
    expect(outcomes.slice(0, 5)).toEqual([undefined, undefined, undefined, undefined, undefined]);
    expect(outcomes.slice(5)).toEqual([expect.any(NotCapturedError), expect.any(NotCapturedError)]);
    expect(capture.waitingVotes).toEqual({ buffered: 5, inFlight: 1 });
  });

  test('rejects a request at its deadline, and refuses votes while the write is stalled', async () => {
    const capture = createCapture();
    const written = captureMany(capture, 1);
    await settle();
    const queued = captureMany(capture, 1);
    await vi.advanceTimersByTimeAsync(CAPTURE_MS_MAX / 2 + 100);
    expect(queued).toEqual([expect.any(NotCapturedError)]);
    expect(captureMany(capture, 1) && capture.refusal).toBe('the write is stalled');
    expect(written).toEqual([undefined]);
    await vi.advanceTimersByTimeAsync(CAPTURE_MS_MAX / 2);
    expect(written).toEqual([expect.any(NotCapturedError)]);

    sink.last.succeed();
    await settle();
    expect(capture.refusal).toBeUndefined();
  });
});

describe('when a write fails', () => {
  test('retries the same jobs under the same keys until one succeeds', async () => {
    const outcomes = captureMany(createCapture({ votesPerJobMax: 2 }), 3);
    await settle();
    const first = sink.last;
    for (let attempt = 0; attempt < 4; attempt++) {
      sink.last.fail();
      await vi.advanceTimersByTimeAsync(200);
    }
    expect(sink.writes).toHaveLength(5);
    expect(sink.last.batches).toEqual(first.batches);
    expect(sink.last.ledger).toEqual(first.ledger);
    sink.last.succeed();
    await settle();
    expect(outcomes).toEqual(['node.t0-1.1', 'node.t0-1.1', 'node.t0-1.2']);
  });

  test('refuses new and queued votes at once, and accepts votes after it recovers', async () => {
    const capture = createCapture();
    const inFlight = captureMany(capture, 1);
    await settle();
    const queued = captureMany(capture, 2);
    sink.last.fail();
    await settle();
    expect(queued).toEqual([expect.any(NotCapturedError), expect.any(NotCapturedError)]);
    expect(capture.refusal).toBe('the last write failed');
    expect(inFlight).toEqual([undefined]);

    await vi.advanceTimersByTimeAsync(100);
    sink.last.succeed();
    await settle();
    expect(inFlight).toEqual(['node.t0-1.1']);
    captureMany(capture, 1);
    await settle();
    expect(sink.last.batches[0]?.seq).toBe(2);
  });

  test('numbers jobs without gaps and never decreases the ledger, whichever writes fail', async () => {
    const capture = createCapture({ votesPerJobMax: 3 });
    const succeeded: { batches: readonly Batch[]; ledger: LedgerEntry }[] = [];
    for (let round = 0; round < 40; round++) {
      captureMany(capture, (round % 5) + 1);
      await settle();
      const { batches, ledger, succeed, fail } = sink.last;
      if (round % 3 === 1) {
        fail();
      } else if (!succeeded.some((write) => write.ledger.seq === ledger.seq)) {
        succeeded.push({ batches, ledger });
        succeed();
      }
      await vi.advanceTimersByTimeAsync(2_000);
    }
    const numbers = succeeded.flatMap(({ batches }) => batches.map(({ seq }) => seq));
    expect(numbers).toEqual(numbers.map((_, index) => index + 1));
    let votes = 0;
    for (const { batches, ledger } of succeeded) {
      votes += batches.reduce((sum, batch) => sum + batch.votes.length, 0);
      expect(ledger).toEqual({ seq: batches.at(-1)?.seq, votes });
    }
  });
});

describe('when the sink has a fault', () => {
  test('refuses at once and writes nothing', async () => {
    sink.fault = 'the queue is not connected';
    const outcomes = captureMany(createCapture(), 1);
    await settle();
    expect(outcomes).toEqual([expect.any(NotCapturedError)]);
    expect(sink.writes).toEqual([]);
  });
});

describe('flush', () => {
  test('refuses new votes, writes the queued ones and returns 0', async () => {
    const capture = createCapture();
    const first = captureMany(capture, 1);
    await settle();
    const second = captureMany(capture, 1);
    const flushed = capture.flush(5_000);
    expect(capture.refusal).toBe('the process is stopping');
    sink.last.succeed();
    await settle();
    sink.last.succeed();
    await settle();
    expect(await flushed).toBe(0);
    expect([...first, ...second]).toEqual(['node.t0-1.1', 'node.t0-1.2']);
  });

  test('returns the number of unwritten votes after its time limit', async () => {
    const capture = createCapture();
    captureMany(capture, 3);
    await settle();
    const flushed = capture.flush(5_000);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(await flushed).toBe(3);
  });

  test('returns at once when idle', async () => {
    expect(await createCapture().flush(5_000)).toBe(0);
  });
});

test('the constructor refuses a job size larger than the buffer', () => {
  expect(() => createCapture({ votesPerJobMax: 10, bufferVotesMax: 9 })).toThrow(RangeError);
});
