import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Db } from '#db/client.ts';
import { closePoll, extendPoll, setEmbargo } from '#db/control.ts';
import { applyPollsFile, type PollsFileOutcome } from '#db/polls.ts';
import { readResults } from '#db/results.ts';
import { ROOT } from '#dev/root.ts';
import { readPollsFile } from '#runtime/polls.ts';
import type { Random } from './random.ts';

const POLLS_FILE = join(ROOT, 'stack/polls.json');
const OPEN_MS_MIN = 2_000;
const OPEN_MS_MAX = 9_000;
const PAUSE_MS_MAX = 3_000;
/** The share of shows that an operator closes early, or whose result an operator hides at a random moment. */
const EARLY_CLOSE_SHARE = 0.3;
const EMBARGO_SHARE = 0.3;
/** The share of shows whose poll is opened again a moment after it closed, half of them by an operator, half by a newer file. */
const EXTENSION_SHARE = 0.3;
const EXTENSION_DELAY_MS_MAX = 3_000;
const WATCH_INTERVAL_MS = 200;
const RETRY_DELAY_MS = 100;
const CHOICES = [
  { id: 'cats', label: 'Cats' },
  { id: 'dogs', label: 'Dogs' },
];

interface Show {
  readonly id: string;
  /** What the polls file says. */
  declaredAt: number;
  closesAt: number;
}

const OPERATOR = { who: 'chaos', why: 'a random moment' };

/**
 * Polls that open and close during a run, so that closes coincide with faults, and a watch on their results: once final, a
 * result must never change.
 */
export class Shows {
  /** Descriptions of final results that changed or disappeared. */
  readonly violations: string[] = [];
  readonly #db: Db;
  readonly #random: Random;
  readonly #file = readPollsFile(POLLS_FILE);
  readonly #shows: Show[] = [];
  readonly #final = new Map<string, string>();
  readonly #stopped = new AbortController();
  #version: number;
  #loops: Promise<unknown> = Promise.resolve();

  constructor(db: Db, random: Random) {
    this.#db = db;
    this.#random = random;
    this.#version = this.#file.version;
  }

  /** Returns the polls to vote on: those of the file, and the shows on the air, also just after their close. */
  get ids(): readonly string[] {
    const [first] = this.#file.polls;
    const now = Date.now();
    const onAir = this.#shows.filter(({ closesAt }) => now < closesAt + 1_000).map(({ id }) => id);
    return [...(first ? [first.id] : []), ...onAir];
  }

  start(): void {
    this.#loops = Promise.all([this.#broadcast(), this.#watch()]);
  }

  /** Stops opening polls, and waits until all shows are over and final, for at most `msMax`. @returns those that are not */
  async stop(msMax: number): Promise<string[]> {
    const deadline = Date.now() + msMax;
    const notFinal = () => this.#shows.map(({ id }) => id).filter((id) => !this.#final.has(id));
    this.#stopped.abort();
    while (notFinal().length > 0 && Date.now() < deadline) {
      await this.#check();
      await sleep(WATCH_INTERVAL_MS);
    }
    await this.#loops;
    return notFinal();
  }

  /** Returns how long each show took from its close to its final result, in milliseconds. */
  async finalAfterMs(): Promise<number[]> {
    const rows = await this.#db
      .selectFrom('polls')
      .select(['closes_at', 'final_at'])
      .where('final_at', 'is not', null)
      .execute();
    return rows.map(({ closes_at, final_at }) => Number(final_at) - Number(closes_at));
  }

  async #broadcast(): Promise<void> {
    for (let number = 1; !this.#stopped.signal.aborted; number++) {
      const openMs = this.#random.between(OPEN_MS_MIN, OPEN_MS_MAX);
      const closesAt = Date.now() + openMs;
      const show: Show = { id: `show-${number}`, declaredAt: closesAt, closesAt };
      this.#shows.push(show);
      await this.#apply();
      await this.#operate(show, openMs);
      await this.#pause(show.closesAt - Date.now());
      if (this.#random.next() < EXTENSION_SHARE) {
        await this.#pause(this.#random.between(0, EXTENSION_DELAY_MS_MAX));
        await this.#extend(show, Date.now() + this.#random.between(OPEN_MS_MIN, OPEN_MS_MAX));
      }
      await this.#pause(this.#random.between(0, PAUSE_MS_MAX));
    }
  }

  /** Changes an open poll at a random moment, as an operator does. */
  async #operate(show: Show, openMs: number): Promise<void> {
    const isHidden = this.#random.next() < EMBARGO_SHARE;
    const isClosed = this.#random.next() < EARLY_CLOSE_SHARE;
    if (!isHidden && !isClosed) return;
    await this.#pause(this.#random.between(0, openMs));
    if (isHidden) await this.#untilDone(() => setEmbargo(this.#db, show.id, 'closed', OPERATOR));
    if (!isClosed) return;
    await this.#untilDone(() => closePoll(this.#db, show.id, OPERATOR));
    show.closesAt = Math.min(show.closesAt, Date.now());
  }

  /** Opens a closed poll again, unless it is final by then. */
  async #extend(show: Show, closesAt: number): Promise<void> {
    const { declaredAt } = show;
    if (this.#random.next() < 0.5) {
      const result = await this.#untilDone(() => extendPoll(this.#db, show.id, { closesAt }, OPERATOR));
      if (result?.outcome === 'done') show.closesAt = closesAt;
      return;
    }
    show.declaredAt = closesAt;
    const outcome = await this.#apply();
    if (typeof outcome === 'object') show.declaredAt = declaredAt;
    else show.closesAt = closesAt;
  }

  /** Applies a newer polls file, as a worker does that was deployed with it. */
  #apply(): Promise<PollsFileOutcome | undefined> {
    this.#version += 1;
    const shows = this.#shows.map(({ id, declaredAt: closesAt }) => ({
      id,
      question: id,
      choices: CHOICES,
      closesAt,
    }));
    const file = { version: this.#version, polls: [...this.#file.polls, ...shows] };
    return this.#untilDone(() => applyPollsFile(this.#db, file));
  }

  /** Retries while Postgres is away; `undefined` when the run has ended before. */
  async #untilDone<T>(change: () => Promise<T>): Promise<T | undefined> {
    while (!this.#stopped.signal.aborted) {
      const outcome = await change().catch(() => undefined);
      if (outcome !== undefined) return outcome;
      await this.#pause(RETRY_DELAY_MS);
    }
    return undefined;
  }

  async #watch(): Promise<void> {
    while (!this.#stopped.signal.aborted) {
      await this.#check();
      await this.#pause(WATCH_INTERVAL_MS);
    }
  }

  async #check(): Promise<void> {
    // Postgres is away during some faults.
    const results = await readResults(this.#db).catch(() => undefined);
    for (const { poll, finalAt, choices } of results?.polls ?? []) {
      const result = finalAt === null ? 'not final' : JSON.stringify({ finalAt, choices });
      const before = this.#final.get(poll);
      if (before !== undefined && before !== result) {
        this.violations.push(`${poll}: the final result ${before} became ${result}`);
      }
      if (finalAt !== null) this.#final.set(poll, result);
    }
  }

  async #pause(ms: number): Promise<void> {
    await sleep(Math.max(0, ms), undefined, { signal: this.#stopped.signal }).catch(() => undefined);
  }
}
