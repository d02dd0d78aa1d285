import { stat } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import {
  Capture,
  FencedError,
  NotCapturedError,
  PollClosedError,
  type Sink,
  type SinkWrite,
} from '#handlers/vote/capture.ts';
import type { PollBook } from '#handlers/vote/polls.ts';
import type { Batch, LedgerEntry } from '#job';
import { recordLog } from '#kit/log.ts';
import { pollBook, pollFields, storedPoll } from '#kit/polls.ts';
import { POLL, vote } from '#kit/votes.ts';
import { CAPTURE_MS_MAX } from '#runtime/capture-limits.ts';

/** A sink whose writes the test completes. */
class ManualSink implements Sink {
  fault: string | undefined;
  readonly writes: (SinkWrite & {
    readonly succeed: () => void;
    readonly fail: () => void;
    readonly fence: () => void;
  })[] = [];

  write(write: SinkWrite): Promise<void> {
    return new Promise((resolve, reject) => {
      this.writes.push({
        ...write,
        succeed: resolve,
        fail: () => reject(new Error('connection lost')),
        fence: () => reject(new FencedError()),
      });
    });
  }

  get last() {
    const write = this.writes.at(-1);
    if (!write) throw new Error('nothing was written');
    return write;
  }
}

const OPEN = { question: 'Which?', choices: [{ id: 'cats', label: 'Cats' }] };

let sink: ManualSink;
let polls: PollBook;
let now: number;
let fences: number;

/** Runs pending promises and `setImmediate` callbacks. */
const settle = () => vi.advanceTimersByTimeAsync(0);

function createCapture(
  options: { votesPerJobMax?: number; bufferVotesMax?: number; sink?: Sink } = {},
): Capture {
  const { votesPerJobMax = 500, bufferVotesMax = 1_000 } = options;
  return new Capture({
    source: 'node.t0-1',
    sink: options.sink ?? sink,
    polls,
    log: recordLog().log,
    votesPerJobMax,
    bufferVotesMax,
    onFenced: () => {
      fences += 1;
    },
  });
}

/** Captures votes of voters 0, 1, …; returns their outcomes, filled in as they settle. */
function captureMany(capture: Capture, count: number, poll?: string) {
  const outcomes: (string | Error | undefined)[] = Array.from({ length: count }, () => undefined);
  for (let index = 0; index < count; index++) {
    capture.capture(vote(index, 'cats', index, poll)).then(
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
  now = 0;
  fences = 0;
  polls = pollBook(
    [
      { ...OPEN, id: POLL },
      { ...OPEN, id: 'short', closesAt: 100 },
    ],
    () => now,
  );
});
afterEach(() => {
  vi.useRealTimers();
});

describe('between writes', () => {
  /** Writes `count` votes; the write takes no time. */
  async function writeVotes(capture: Capture, count: number): Promise<void> {
    captureMany(capture, count);
    await settle();
    sink.last.succeed();
    await settle();
  }

  test('under load, the next write starts 15 ms after the last, and later votes share it', async () => {
    const capture = createCapture();
    await writeVotes(capture, 5);
    captureMany(capture, 1);
    await vi.advanceTimersByTimeAsync(14);
    captureMany(capture, 2);
    expect(sink.writes).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(sink.writes).toHaveLength(2);
    expect(sink.last.batches.map(({ votes }) => votes.length)).toEqual([3]);
  });

  test('after a write of few votes, the next one starts at once', async () => {
    const capture = createCapture();
    await writeVotes(capture, 4);
    captureMany(capture, 1);
    await settle();
    expect(sink.writes).toHaveLength(2);
  });

  test('a write starts at once when many votes wait', async () => {
    const capture = createCapture();
    await writeVotes(capture, 5);
    captureMany(capture, 249);
    await settle();
    expect(sink.writes).toHaveLength(1);
    captureMany(capture, 1);
    await settle();
    expect(sink.writes).toHaveLength(2);
  });
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

test('accepts the votes of a write that succeeded while the process got no CPU, and those queued behind it', async () => {
  vi.useRealTimers();
  const written = performance.now() + CAPTURE_MS_MAX + 100;
  const file = { write: () => stat(import.meta.filename).then(() => undefined), fault: undefined };
  const capture = createCapture({ sink: file });
  const inFlight = captureMany(capture, 1);
  await new Promise((resolve) => setImmediate(resolve));
  const queued = captureMany(capture, 1);
  while (performance.now() < written);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect([...inFlight, ...queued]).toEqual(['node.t0-1.1', 'node.t0-1.2']);
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

describe('when a poll closes', () => {
  const close = (poll: string, revision = 1) =>
    polls.apply(pollFields([storedPoll({ ...OPEN, id: poll, revision, isClosed: true })]));

  test('refuses its buffered votes, which are in no job, and numbers the others', async () => {
    const capture = createCapture();
    captureMany(capture, 1, 'short');
    await settle();
    const late = captureMany(capture, 2, 'short');
    const others = captureMany(capture, 1);
    now = 100;
    sink.last.succeed();
    await settle();
    expect(late).toEqual([expect.any(PollClosedError), expect.any(PollClosedError)]);
    expect(sink.last.batches.map(({ seq, votes }) => [seq, votes])).toEqual([[2, [vote(0, 'cats', 0)]]]);
    expect(sink.last.ledger).toEqual({ seq: 2, votes: 2 });
    sink.last.succeed();
    await settle();
    expect(others).toEqual(['node.t0-1.2']);
  });

  test('seals it after its jobs, at the last number on disk, once', async () => {
    const capture = createCapture();
    captureMany(capture, 3, 'short');
    await settle();
    close('short');
    capture.seal();
    expect(sink.writes).toHaveLength(1);
    sink.last.succeed();
    await settle();
    expect(sink.writes).toHaveLength(2);
    expect(sink.last).toMatchObject({ batches: [], ledger: { seq: 1, votes: 3 } });
    expect(sink.last.seals).toEqual([{ poll: 'short', revision: 1, seq: 1 }]);
    sink.last.succeed();
    await settle();
    captureMany(capture, 1);
    await settle();
    expect(sink.last.seals).toEqual([]);
  });

  test('seals it at once when idle, and at 0 when it has written nothing', async () => {
    const capture = createCapture();
    close('short');
    capture.seal();
    await settle();
    expect(sink.last).toMatchObject({ batches: [], ledger: { seq: 0, votes: 0 } });
    expect(sink.last.seals).toEqual([{ poll: 'short', revision: 1, seq: 0 }]);
    sink.last.succeed();
    await settle();
    capture.seal();
    await settle();
    expect(sink.writes).toHaveLength(1);
  });

  test('seals it below the jobs of the same write, because those may turn out to be fenced', async () => {
    const capture = createCapture();
    close('short');
    captureMany(capture, 1);
    await settle();
    expect(sink.last.batches.map(({ seq }) => seq)).toEqual([1]);
    expect(sink.last.seals).toEqual([{ poll: 'short', revision: 1, seq: 0 }]);
  });

  test('writes no seal while a write is retried, then seals after it', async () => {
    const capture = createCapture();
    captureMany(capture, 1, 'short');
    await settle();
    close('short');
    for (let attempt = 0; attempt < 3; attempt++) {
      sink.last.fail();
      capture.seal();
      await vi.advanceTimersByTimeAsync(200);
    }
    expect(sink.writes.map(({ seals }) => seals)).toEqual([[], [], [], []]);
    sink.last.succeed();
    await settle();
    expect(sink.last.seals).toEqual([{ poll: 'short', revision: 1, seq: 1 }]);
  });

  test('seals again at a higher number after an extension and its close', async () => {
    const capture = createCapture();
    close('short', 1);
    capture.seal();
    await settle();
    polls.apply(pollFields([storedPoll({ ...OPEN, id: 'short', revision: 2 })]));
    sink.last.succeed();
    await settle();
    const extended = captureMany(capture, 1, 'short');
    await settle();
    expect(sink.last.seals).toEqual([]);
    close('short', 2);
    sink.last.succeed();
    await settle();
    expect(extended).toEqual(['node.t0-1.1']);
    expect(sink.last.seals).toEqual([{ poll: 'short', revision: 2, seq: 1 }]);
  });

  test('never has a vote above the seal, even if the poll closes while a write is composed', async () => {
    const captured = captureMany(createCapture(), 4, 'short');
    // Each reading of the clock advances it, so that the poll closes between two votes of one write.
    now = 98;
    const isClosed = polls.isClosed.bind(polls);
    vi.spyOn(polls, 'isClosed').mockImplementation((poll) => {
      const answer = isClosed(poll);
      now += 1;
      return answer;
    });
    await settle();
    sink.last.succeed();
    await settle();
    sink.last.succeed();
    await settle();
    expect(captured.slice(2)).toEqual([expect.any(PollClosedError), expect.any(PollClosedError)]);
    const numbers = sink.writes.flatMap(({ batches }) => batches.map(({ seq }) => seq));
    expect(numbers).toEqual([1]);
    expect(sink.writes.flatMap(({ seals }) => seals)).toEqual([{ poll: 'short', revision: 1, seq: 1 }]);
  });
});

describe('when the source is fenced', () => {
  test('rejects every waiting vote and all later ones, and reports it once', async () => {
    const capture = createCapture();
    const inFlight = captureMany(capture, 2);
    await settle();
    const buffered = captureMany(capture, 1);
    sink.last.fence();
    await settle();
    const later = captureMany(capture, 1);
    await vi.advanceTimersByTimeAsync(CAPTURE_MS_MAX);
    expect([...inFlight, ...buffered, ...later]).toEqual(Array(4).fill(expect.any(NotCapturedError)));
    expect(capture.refusal).toBe('the source is fenced');
    expect(sink.writes).toHaveLength(1);
    expect(fences).toBe(1);
    expect(await capture.flush(5_000)).toBe(0);
  });

  test('stops the retries of a write, and the wait of a flush for it', async () => {
    const capture = createCapture();
    const votes = captureMany(capture, 1);
    await settle();
    const flushed = capture.flush(5_000);
    sink.last.fail();
    await vi.advanceTimersByTimeAsync(50);
    sink.last.fence();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(votes).toEqual([expect.any(NotCapturedError)]);
    expect(await flushed).toBe(0);
    expect(sink.writes).toHaveLength(2);
  });

  test('is noticed by the write of a seal', async () => {
    const capture = createCapture();
    now = 100;
    polls.latch();
    capture.seal();
    await settle();
    sink.last.fence();
    await settle();
    expect(fences).toBe(1);
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
