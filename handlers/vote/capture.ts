import { type Batch, JOB_VOTES_MAX, jobKey, type LedgerEntry, type Seal, type Vote } from '#job';
import {
  CAPTURE_BUFFER_DEFAULT,
  CAPTURE_MS_MAX,
  VOTES_PER_JOB_CEILING,
  VOTES_PER_JOB_DEFAULT,
} from '#runtime/capture-limits.ts';
import type { Log } from '#runtime/log.ts';
import type { ClosedPoll, PollBook } from './polls.ts';

/** What one write makes durable, all of it or nothing. */
export interface SinkWrite {
  readonly source: string;
  readonly batches: readonly Batch[];
  /** The totals of the source, with these batches. */
  readonly ledger: LedgerEntry;
  readonly seals: readonly (ClosedPoll & Seal)[];
}

/** Where captured votes are written. */
export interface Sink {
  /** Why writes are impossible now; `undefined` when they are possible. Read for every vote, so it must be cheap. */
  readonly fault: string | undefined;
  /**
   * Resolves once all of the write is on disk. After a rejection it may have been written; repeating the same write is
   * idempotent, because every job keeps its key.
   *
   * @throws FencedError when the source was fenced before the write, which may be on disk nevertheless
   */
  write(write: SinkWrite): Promise<void>;
}

/**
 * The source is fenced: workers have taken it for dead, and count only its votes up to then. It must not acknowledge another
 * one, and no retry helps.
 */
export class FencedError extends Error {
  override readonly name = 'FencedError';

  constructor() {
    super('the source is fenced');
  }
}

/** The vote is not known to be on disk, so it must not be answered 202. */
export class NotCapturedError extends Error {
  override readonly name = 'NotCapturedError';
}

/** The poll closed after the vote was validated and before it was in a job. */
export class PollClosedError extends Error {
  override readonly name = 'PollClosedError';
}

export interface CaptureOptions {
  /** The source of all jobs, see `Batch.source`. */
  readonly source: string;
  readonly sink: Sink;
  readonly polls: Pick<PollBook, 'isClosed' | 'unsealed' | 'markSealed'>;
  readonly log: Log;
  /** The most votes in one job; 1 gives each vote its own job. */
  readonly votesPerJobMax: number;
  /** The most votes that wait while a write is in flight. At least `votesPerJobMax`. */
  readonly bufferVotesMax: number;
  /** Called after each successful write of jobs. */
  readonly onWrite?: (write: { readonly jobs: number; readonly votes: number; readonly ms: number }) => void;
  /** Called once when a write finds the source fenced, after its requests were rejected. */
  readonly onFenced: () => void;
}

const JOBS_PER_WRITE_MAX = 20;
/** A write that takes longer means that the disk is too slow; new votes are refused until it is done. */
const WRITE_STALL_MS = 1_000;
/**
 * Under load, writes start at this interval, so that more votes share a job and its fsync. After a write of few votes the next
 * one starts at once: a vote alone is answered after one fsync.
 */
const WRITE_INTERVAL_MS = 15;
const FEW_VOTES = 4;
/** With this many votes in the buffer the next write starts at once. */
const GATHERED_VOTES_MAX = 250;
const RETRY_DELAY_MS_MIN = 25;
const RETRY_DELAY_MS_MAX = 200;
const SWEEP_INTERVAL_MS = 50;

if (VOTES_PER_JOB_CEILING > JOB_VOTES_MAX) {
  throw new RangeError('workers must accept the largest job: VOTES_PER_JOB_CEILING <= JOB_VOTES_MAX');
}
if (JOBS_PER_WRITE_MAX * VOTES_PER_JOB_DEFAULT < CAPTURE_BUFFER_DEFAULT) {
  throw new RangeError('by default, one write must empty a full buffer');
}
if (WRITE_STALL_MS >= CAPTURE_MS_MAX) {
  throw new RangeError('a stalled write must be noticed before its requests time out');
}

interface Waiting {
  readonly vote: Vote;
  readonly expiresAt: number;
  readonly resolve: (receipt: string) => void;
  readonly reject: (error: NotCapturedError | PollClosedError) => void;
}

/** One write, immutable, and the requests that wait for each of its jobs. */
interface Write extends SinkWrite {
  readonly waiting: readonly (readonly Waiting[])[];
}

/**
 * Group commit: votes that arrive while a write is in flight, or within an interval after it, wait in the buffer and share the
 * next write.
 *
 *   idle ──vote or seal──▶ writing ──written and gathered, nothing waits──▶ idle
 *                            │  ▲ └──written and gathered, more waits──▶ writing
 *               write failed │  │ written
 *                            ▼  │
 *                         retrying: repeats the same write with growing delays and refuses votes
 *   writing, retrying ──the source is fenced──▶ fenced: refuses every vote, permanently
 *
 * Only one write is in flight, so jobs reach the queue in the order of their numbers and the ledger only grows. A failed
 * write blocks all later ones and is retried under the same keys until its outcome is known, so a gap in the
 * numbers is a real loss. Its requests time out after `CAPTURE_MS_MAX` and are answered 503; their votes may still count,
 * and a voter who votes again replaces theirs.
 *
 * A seal says: this source accepts no more votes for this revision of the poll, and all it accepted are in the jobs up to
 * this number. That is true because a write is composed in one turn of the event loop, after the write before it is on
 * disk: first the closed polls are sealed at the last number on disk, then votes for closed polls are refused, then the
 * rest is numbered. A vote for a sealed poll thus has no number, and gets none, because polls stay closed for their
 * revision. The order of the first two matters: a poll that closes between them is sealed by the next write.
 *
 * A worker that finds no seal fences the source, and in the same transaction reads its last number from the ledger. Every
 * write reads the fence in its own transaction. So no job of a write that finds no fence is above that number, and no job of
 * a write that finds one is acknowledged. `test/model` explores all interleavings of these steps.
 */
export class Capture {
  readonly #options: CaptureOptions;
  readonly #buffer: Waiting[] = [];
  #mode: 'idle' | 'writing' | 'retrying' | 'fenced' = 'idle';
  #write: Write | undefined;
  #writeStartedAt = 0;
  #isStalled = false;
  #seq = 0;
  #votes = 0;
  #closed = false;
  #sweeper: NodeJS.Timeout | undefined;
  #whenIdle: (() => void)[] = [];
  #whenGathered: (() => void) | undefined;

  constructor(options: CaptureOptions) {
    if (options.votesPerJobMax > options.bufferVotesMax) {
      throw new RangeError('a job must fit into the buffer: votesPerJobMax <= bufferVotesMax');
    }
    this.#options = options;
  }

  /** Returns the numbers of votes in the buffer and in flight. */
  get waitingVotes(): { readonly buffered: number; readonly inFlight: number } {
    const inFlight = this.#write?.batches.reduce((sum, { votes }) => sum + votes.length, 0) ?? 0;
    return { buffered: this.#buffer.length, inFlight };
  }

  /** Why a vote would be refused now; `undefined` when it would be accepted. */
  get refusal(): string | undefined {
    if (this.#mode === 'fenced') return 'the source is fenced';
    if (this.#closed) return 'the process is stopping';
    if (this.#options.sink.fault) return this.#options.sink.fault;
    if (this.#mode === 'retrying') return 'the last write failed';
    if (this.#isStalled) return 'the write is stalled';
    if (this.#buffer.length >= this.#options.bufferVotesMax) return 'the buffer is full';
    return undefined;
  }

  /**
   * Captures a vote.
   *
   * @returns the receipt, once the vote is on disk
   * @throws NotCapturedError at once when the vote is refused, or after `CAPTURE_MS_MAX`
   * @throws PollClosedError when its poll closes before the vote is in a job
   */
  capture(vote: Vote): Promise<string> {
    const { refusal } = this;
    if (refusal) return Promise.reject(new NotCapturedError(refusal));
    return new Promise((resolve, reject) => {
      this.#buffer.push({ vote, expiresAt: performance.now() + CAPTURE_MS_MAX, resolve, reject });
      if (this.#mode === 'idle') this.#begin();
      if (this.#buffer.length >= GATHERED_VOTES_MAX) this.#whenGathered?.();
    });
  }

  /** Seals the polls that have closed; with the next write, or at once when idle. */
  seal(): void {
    if (this.#mode === 'idle' && !this.#closed && this.#options.polls.unsealed.length > 0) this.#begin();
  }

  /**
   * Refuses new votes and waits until the buffered ones are written, for at most `msMax`.
   *
   * @returns how many votes are still unwritten; none of them was acknowledged
   */
  async flush(msMax: number): Promise<number> {
    this.#closed = true;
    const idle = new Promise<void>((resolve) => {
      if (this.#mode === 'idle' || this.#mode === 'fenced') resolve();
      else this.#whenIdle.push(resolve);
    });
    let timer: NodeJS.Timeout | undefined;
    const expiry = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, msMax);
    });
    await Promise.race([idle, expiry]);
    clearTimeout(timer);
    const { buffered, inFlight } = this.waitingVotes;
    return buffered + inFlight;
  }

  get #votesPerWriteMax(): number {
    return JOBS_PER_WRITE_MAX * this.#options.votesPerJobMax;
  }

  #begin(): void {
    this.#mode = 'writing';
    // Runs after the I/O of this event-loop turn: the response to a write may have arrived while the process got no CPU.
    this.#sweeper = setInterval(() => setImmediate(() => this.#sweep(performance.now())), SWEEP_INTERVAL_MS);
    // Yields so that every request of this event-loop turn joins the write.
    setImmediate(() => void this.#run());
  }

  async #run(): Promise<void> {
    const { polls } = this.#options;
    while (this.#buffer.length > 0 || polls.unsealed.length > 0) {
      const write = this.#compose();
      if (!write) continue;
      this.#write = write;
      const isWritten = await this.#writeUntilDone(write);
      this.#write = undefined;
      this.#isStalled = false;
      if (!isWritten) {
        this.#fence(write);
        return;
      }
      polls.markSealed(write.seals);
      write.waiting.forEach((group, index) => {
        const batch = write.batches[index] as Batch;
        const receipt = jobKey(batch.source, batch.seq);
        for (const waiting of group) waiting.resolve(receipt);
      });
      await this.#gather(write);
    }
    this.#end('idle');
  }

  /** Waits for votes that share the next write. */
  async #gather({ waiting }: Write): Promise<void> {
    // Yields so that requests of this event-loop turn join the next write.
    if (this.#buffer.length < this.#votesPerWriteMax) await new Promise((resolve) => setImmediate(resolve));
    const isLoaded = waiting.flat().length > FEW_VOTES;
    const restMs = this.#writeStartedAt + WRITE_INTERVAL_MS - performance.now();
    if (!isLoaded || this.#buffer.length >= GATHERED_VOTES_MAX || restMs < 1) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, restMs);
      this.#whenGathered = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#whenGathered = undefined;
  }

  #end(mode: 'idle' | 'fenced'): void {
    this.#mode = mode;
    clearInterval(this.#sweeper);
    for (const resolve of this.#whenIdle.splice(0)) resolve();
  }

  /** Rejects all requests, those of the write included: it may be on disk, but workers need not count its jobs. */
  #fence(write: Write): void {
    const error = new NotCapturedError('the source is fenced');
    for (const { reject } of write.waiting.flat()) reject(error);
    this.#refuseQueued('the source is fenced');
    this.#end('fenced');
    this.#options.onFenced();
  }

  /**
   * Seals closed polls, and moves queued votes into jobs with the next numbers, once and irrevocably. Returns `undefined`
   * when nothing is left to write.
   */
  #compose(): Write | undefined {
    const { source, votesPerJobMax, polls } = this.#options;
    const seals = polls.unsealed.map((closed) => ({ ...closed, seq: this.#seq }));
    const accepted = this.#buffer.splice(0, this.#votesPerWriteMax).filter(({ vote: [poll], reject }) => {
      const isClosed = polls.isClosed(poll);
      if (isClosed) reject(new PollClosedError('the poll has closed'));
      return !isClosed;
    });
    if (accepted.length === 0 && seals.length === 0) return undefined;
    const batches: Batch[] = [];
    const waiting: Waiting[][] = [];
    for (let start = 0; start < accepted.length; start += votesPerJobMax) {
      const group = accepted.slice(start, start + votesPerJobMax);
      this.#seq += 1;
      batches.push({ source, seq: this.#seq, votes: group.map(({ vote }) => vote) });
      waiting.push(group);
    }
    this.#votes += accepted.length;
    return { source, batches, ledger: { seq: this.#seq, votes: this.#votes }, seals, waiting };
  }

  /** Returns whether the write is on disk; if not, the source is fenced. */
  async #writeUntilDone({ waiting: _, ...write }: Write): Promise<boolean> {
    const { sink, log, onWrite } = this.#options;
    const { batches, ledger } = write;
    for (let delayMs = RETRY_DELAY_MS_MIN; ; delayMs = Math.min(delayMs * 2, RETRY_DELAY_MS_MAX)) {
      const startedAt = performance.now();
      this.#writeStartedAt = startedAt;
      try {
        await sink.write(write);
        if (this.#mode === 'retrying') log.info('write recovered', { seq: ledger.seq });
        this.#mode = 'writing';
        const votes = batches.reduce((sum, batch) => sum + batch.votes.length, 0);
        if (votes > 0) onWrite?.({ jobs: batches.length, votes, ms: performance.now() - startedAt });
        return true;
      } catch (error) {
        if (error instanceof FencedError) return false;
        this.#mode = 'retrying';
        log.repeated('write failed, retrying', { seq: ledger.seq, error });
        this.#refuseQueued('the last write failed');
        await new Promise((resolve) => setTimeout(resolve, delayMs));
      }
    }
  }

  /** Rejects the requests that have expired, and all queued ones while the write is stalled. */
  #sweep(now: number): void {
    this.#isStalled =
      this.#mode === 'writing' && this.#write !== undefined && now - this.#writeStartedAt > WRITE_STALL_MS;
    if (this.#isStalled) this.#refuseQueued('the write is stalled');
    for (const group of this.#write?.waiting ?? []) {
      for (const { expiresAt, reject } of group) {
        // Requests expire in the order of their arrival.
        if (expiresAt > now) return;
        reject(new NotCapturedError('the write timed out'));
      }
    }
  }

  /** Queued votes have no number yet, so dropping them leaves no gap. */
  #refuseQueued(reason: string): void {
    for (const { reject } of this.#buffer.splice(0)) reject(new NotCapturedError(reason));
  }
}
