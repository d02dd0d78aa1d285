import { type Batch, jobKey, type LedgerEntry, type Vote } from '#job';
import type { Log } from '#runtime/log.ts';

/** Where captured votes are written. */
export interface Sink {
  /** Why nothing can be written now; `undefined` when it can. Cheap: it is asked for every vote. */
  readonly fault: string | undefined;
  /**
   * Writes jobs and the ledger entry that covers them. Resolves when all of it is on disk. When it rejects, any part
   * may have been written or not; writing the same again is harmless, because every job keeps its key.
   */
  write(batches: readonly Batch[], ledger: LedgerEntry): Promise<void>;
}

/** The vote is not known to be on disk. Nothing is answered 202 on hope. */
export class NotCapturedError extends Error {
  override readonly name = 'NotCapturedError';
}

export interface CaptureOptions {
  /** This process, see `Batch.source`. */
  readonly source: string;
  readonly sink: Sink;
  readonly log: Log;
  /** At most this many votes travel in one job; 1 gives one job a vote. */
  readonly votesPerJobMax: number;
  /** At most this many votes wait for the write after the one under way. */
  readonly bufferVotesMax: number;
  /** Hears how each write went. */
  readonly onWrite?: (write: { readonly jobs: number; readonly votes: number; readonly ms: number }) => void;
}

/** The jobs that one write carries at most; with the default of 500 votes a job this is the whole default buffer. */
const JOBS_PER_WRITE_MAX = 20;
/** A request waits no longer than this for its vote to be on disk. */
export const CAPTURE_MS_MAX = 2_000;
/** A write that takes longer than this says that the disk cannot follow: new votes are refused until it is done. */
const WRITE_STALL_MS = 1_000;
const RETRY_DELAY_MS_MIN = 25;
const RETRY_DELAY_MS_MAX = 200;
const SWEEP_INTERVAL_MS = 50;

interface Waiting {
  readonly vote: Vote;
  readonly expiresAt: number;
  readonly resolve: (receipt: string) => void;
  readonly reject: (error: NotCapturedError) => void;
}

/** One write: numbered jobs, fixed for ever, and the requests that wait for each. */
interface Write {
  readonly batches: readonly Batch[];
  readonly ledger: LedgerEntry;
  readonly waiting: readonly (readonly Waiting[])[];
}

/**
 * Group commit: votes that arrive while a write is under way wait in line and travel together in the next one.
 *
 *   idle ──vote──▶ writing ──written, line empty──▶ idle
 *                     │  ▲
 *         write failed│  │written, or line not empty: next write
 *                     ▼  │
 *                  retrying: the same write again, with growing delays; votes are refused meanwhile
 *
 * One write is under way at a time, so jobs reach the queue in the order of their numbers and the ledger only grows. A
 * write is never given up: it stays at the head of the line until its fate is known, under the same keys, so a gap in
 * the numbers can only mean a loss. The requests in it may give up (after `CAPTURE_MS_MAX`) and are told 503; their
 * votes may count all the same, and a voter who tries again replaces them.
 */
export class Capture {
  readonly #options: CaptureOptions;
  readonly #line: Waiting[] = [];
  #mode: 'idle' | 'writing' | 'retrying' = 'idle';
  #write: Write | undefined;
  #writeStartedAt = 0;
  #seq = 0;
  #votes = 0;
  #closed = false;
  #sweeper: NodeJS.Timeout | undefined;
  #whenIdle: (() => void)[] = [];

  constructor(options: CaptureOptions) {
    if (options.votesPerJobMax > options.bufferVotesMax) {
      throw new RangeError('a job must fit into the buffer: votesPerJobMax <= bufferVotesMax');
    }
    this.#options = options;
  }

  /** Votes in line and votes being written. */
  get waitingVotes(): { readonly inLine: number; readonly beingWritten: number } {
    const beingWritten = this.#write?.batches.reduce((sum, { votes }) => sum + votes.length, 0) ?? 0;
    return { inLine: this.#line.length, beingWritten };
  }

  /** Why a vote would be refused now; `undefined` when it would be taken. */
  get refusal(): string | undefined {
    if (this.#closed) return 'this process is stopping';
    if (this.#options.sink.fault) return this.#options.sink.fault;
    if (this.#mode === 'retrying') return 'the queue did not take the last votes';
    if (this.#isStalled(performance.now())) return 'the queue takes too long';
    if (this.#line.length >= this.#options.bufferVotesMax) return 'the buffer is full';
    return undefined;
  }

  /**
   * Captures a vote.
   *
   * @returns the receipt, once the vote is on disk
   * @throws NotCapturedError at once when there is no room or no queue, or after `CAPTURE_MS_MAX`
   */
  capture(vote: Vote): Promise<string> {
    const { refusal } = this;
    if (refusal) return Promise.reject(new NotCapturedError(refusal));
    return new Promise((resolve, reject) => {
      this.#line.push({ vote, expiresAt: performance.now() + CAPTURE_MS_MAX, resolve, reject });
      if (this.#mode === 'idle') this.#begin();
    });
  }

  /**
   * Refuses new votes and waits until those in line are written.
   *
   * @returns how many votes were left unwritten when the time was over; nobody was told that they are captured
   */
  async drain(msMax: number): Promise<number> {
    this.#closed = true;
    const idle = new Promise<void>((resolve) => {
      if (this.#mode === 'idle') resolve();
      else this.#whenIdle.push(resolve);
    });
    let timer: NodeJS.Timeout | undefined;
    const expiry = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, msMax);
    });
    await Promise.race([idle, expiry]);
    clearTimeout(timer);
    const { inLine, beingWritten } = this.waitingVotes;
    return inLine + beingWritten;
  }

  get #votesPerWriteMax(): number {
    return JOBS_PER_WRITE_MAX * this.#options.votesPerJobMax;
  }

  #begin(): void {
    this.#mode = 'writing';
    this.#sweeper = setInterval(() => this.#sweep(performance.now()), SWEEP_INTERVAL_MS);
    // Not before all requests that have arrived in this turn of the event loop are in line.
    setImmediate(() => void this.#run());
  }

  async #run(): Promise<void> {
    while (this.#line.length > 0) {
      const write = this.#seal();
      await this.#writeUntilDone(write);
      this.#write = undefined;
      write.waiting.forEach((group, index) => {
        const batch = write.batches[index] as Batch;
        const receipt = jobKey(batch.source, batch.seq);
        for (const waiting of group) waiting.resolve(receipt);
      });
      // The same again: the answer came in the midst of requests, and those behind it shall not wait for a write more.
      if (this.#line.length < this.#votesPerWriteMax) await new Promise((resolve) => setImmediate(resolve));
    }
    this.#mode = 'idle';
    clearInterval(this.#sweeper);
    for (const resolve of this.#whenIdle.splice(0)) resolve();
  }

  /** Takes votes from the line and gives their jobs the next numbers, once and for ever. */
  #seal(): Write {
    const { source, votesPerJobMax } = this.#options;
    const taken = this.#line.splice(0, this.#votesPerWriteMax);
    const batches: Batch[] = [];
    const waiting: Waiting[][] = [];
    for (let start = 0; start < taken.length; start += votesPerJobMax) {
      const group = taken.slice(start, start + votesPerJobMax);
      this.#seq += 1;
      batches.push({ source, seq: this.#seq, votes: group.map(({ vote }) => vote) });
      waiting.push(group);
    }
    this.#votes += taken.length;
    this.#write = { batches, ledger: { seq: this.#seq, votes: this.#votes }, waiting };
    return this.#write;
  }

  async #writeUntilDone({ batches, ledger }: Write): Promise<void> {
    const { sink, log, onWrite } = this.#options;
    for (let delayMs = RETRY_DELAY_MS_MIN; ; delayMs = Math.min(delayMs * 2, RETRY_DELAY_MS_MAX)) {
      const startedAt = performance.now();
      this.#writeStartedAt = performance.now();
      try {
        await sink.write(batches, ledger);
        if (this.#mode === 'retrying') log.info('the queue takes votes again', { seq: ledger.seq });
        this.#mode = 'writing';
        const votes = batches.reduce((sum, batch) => sum + batch.votes.length, 0);
        onWrite?.({ jobs: batches.length, votes, ms: performance.now() - startedAt });
        return;
      } catch (error) {
        this.#mode = 'retrying';
        log.repeated('the queue did not take votes', { seq: ledger.seq, error });
        this.#refuseLine('the queue did not take the last votes');
        await new Promise((resolve) => setTimeout(resolve, delayMs));
      }
    }
  }

  #isStalled(now: number): boolean {
    return (
      this.#mode === 'writing' && this.#write !== undefined && now - this.#writeStartedAt > WRITE_STALL_MS
    );
  }

  /** Answers the requests that have waited too long. */
  #sweep(now: number): void {
    if (this.#isStalled(now)) this.#refuseLine('the queue takes too long');
    for (const group of this.#write?.waiting ?? []) {
      for (const { expiresAt, reject } of group) {
        // They stand in the order of their arrival, so that is also the order in which they expire.
        if (expiresAt > now) return;
        reject(new NotCapturedError('the queue did not answer in time'));
      }
    }
  }

  /** The votes in line have no number yet: to forget them is safe. */
  #refuseLine(reason: string): void {
    for (const { reject } of this.#line.splice(0)) reject(new NotCapturedError(reason));
  }
}
