import type { Applied } from '#job';
import type { Log } from '#runtime/log.ts';
import { imagesOf, parseStoredPoll, phaseOf, type StoredPoll } from '#runtime/polls.ts';

/** A revision of a poll that accepts no more votes. */
export interface ClosedPoll {
  readonly poll: string;
  readonly revision: number;
}

export type Phase = ReturnType<typeof phaseOf>;

interface Entry {
  readonly poll: StoredPoll;
  /** When this revision was first read. */
  readonly appliedAt: number;
  isLatched: boolean;
}

/**
 * The polls of a handler process, as its node's Redis holds them. A revision of a poll has three states:
 *
 *   open ──stored as closed, or `closesAt` has passed──▶ latched ──its seal is written──▶ sealed
 *
 * Only a higher revision of the poll leaves a state backwards: it begins as open, or as latched if it is stored as closed.
 * The clock is read again and again, but a state never depends on a later reading: a clock that is set back opens nothing.
 * A lower revision than the known one is ignored, because the seal of the higher one may be on disk.
 *
 * Polls are never removed: a poll that came back without its latch could accept votes after its seal. Only workers write
 * them, from Postgres, so that their number is bounded by its table.
 */
export class PollBook {
  readonly #entries = new Map<string, Entry>();
  /** The text of each poll when it was last read, so that only a change is parsed. */
  readonly #texts = new Map<string, string>();
  readonly #unsealed = new Map<string, number>();
  readonly #images = new Map<string, Uint8Array<ArrayBuffer>>();
  readonly #log: Log;
  readonly #now: () => number;
  #listed: readonly StoredPoll[] = [];
  #applied: ReadonlyMap<string, Applied> = new Map();
  /** The images that the polls name. */
  #named: ReadonlySet<string> = new Set();

  /** @param now milliseconds since 1970; may jump in both directions */
  constructor(log: Log, now: () => number = Date.now) {
    this.#log = log;
    this.#now = now;
  }

  /** The polls that are neither hidden nor withdrawn, in their order. A new array after each change of any poll. */
  get listed(): readonly StoredPoll[] {
    return this.#listed;
  }

  /** The revision of each poll. A new map after each change of any poll. */
  get applied(): ReadonlyMap<string, Applied> {
    return this.#applied;
  }

  /**
   * Returns a poll, listed or not: a hidden one is reached by its address, and voters may still have that of a withdrawn one. A
   * hidden poll that is forgotten is gone.
   */
  get(id: string): StoredPoll | undefined {
    const poll = this.#entries.get(id)?.poll;
    return poll?.hidden && poll.isForgotten ? undefined : poll;
  }

  /** Returns the bytes of an image of a poll once it was added. */
  image(name: string): Uint8Array<ArrayBuffer> | undefined {
    return this.#images.get(name);
  }

  /** The images of the polls that were not added yet. */
  get missingImages(): readonly string[] {
    return [...this.#named].filter((name) => !this.#images.has(name));
  }

  addImage(name: string, bytes: Uint8Array<ArrayBuffer>): void {
    this.#images.set(name, bytes);
  }

  /** Returns the phase of a poll now; `closed` for an unknown one. */
  phaseOf(id: string): Phase {
    const entry = this.#entries.get(id);
    if (!entry || this.#latchByClock(entry)) return 'closed';
    return phaseOf(entry.poll, this.#now());
  }

  /** Returns the milliseconds until the clock changes the phase of a poll; `Infinity` if it never does. */
  msToChange(id: string): number {
    const { opensAt, closesAt } = this.#entries.get(id)?.poll ?? {};
    const now = this.#now();
    return Math.min(...[opensAt, closesAt].map((at) => (at !== undefined && at > now ? at - now : Infinity)));
  }

  /** Whether a poll accepts no more votes; true for an unknown one. */
  isClosed(id: string): boolean {
    const entry = this.#entries.get(id);
    return entry === undefined || this.#latchByClock(entry);
  }

  /** Latches every poll whose time has passed, so that polls without voters are sealed too. */
  latch(): void {
    for (const entry of this.#entries.values()) this.#latchByClock(entry);
  }

  /** The latched polls whose seals are not on disk yet. Does not read the clock. */
  get unsealed(): readonly ClosedPoll[] {
    if (this.#unsealed.size === 0) return [];
    return Array.from(this.#unsealed, ([poll, revision]) => ({ poll, revision }));
  }

  /** Records that seals are on disk. Polls that have closed at a higher revision since then stay unsealed. */
  markSealed(seals: readonly ClosedPoll[]): void {
    for (const { poll, revision } of seals) {
      if (this.#unsealed.get(poll) === revision) this.#unsealed.delete(poll);
    }
  }

  /** Applies the content of `POLLS_KEY`, and logs what has changed since the first time. */
  apply(fields: Readonly<Record<string, string>>): void {
    const isFirst = this.#texts.size === 0;
    const changed = Object.entries(fields).filter(([id, text]) => {
      if (this.#texts.get(id) === text) return false;
      this.#texts.set(id, text);
      return this.#applyText(id, text);
    });
    if (changed.length === 0) return;
    this.#listed = Array.from(this.#entries.values(), ({ poll }) => poll)
      .filter(({ position, hidden }) => position !== null && !hidden)
      .toSorted((a, b) => Number(a.position) - Number(b.position));
    this.#applied = new Map(
      Array.from(this.#entries, ([id, { poll, appliedAt: at }]) => [id, { revision: poll.revision, at }]),
    );
    this.#named = imagesOf(Array.from(this.#entries.values(), ({ poll }) => poll));
    for (const name of this.#images.keys()) if (!this.#named.has(name)) this.#images.delete(name);
    if (isFirst) return;
    for (const [id] of changed) {
      const { revision, isClosed } = (this.#entries.get(id) as Entry).poll;
      this.#log.info('poll changed', { poll: id, revision, isClosed });
    }
  }

  /** Returns whether the poll has changed. */
  #applyText(id: string, text: string): boolean {
    const poll = parseStoredPoll(id, text);
    const known = this.#entries.get(id);
    if (!poll) {
      this.#log.warn('stored poll is unreadable, keeping the last one', { poll: id });
      return false;
    }
    if (known && poll.revision < known.poll.revision) {
      const { revision } = known.poll;
      this.#log.warn('stored poll has a lower revision, keeping the last one', { poll: id, revision });
      return false;
    }
    const isSameRevision = poll.revision === known?.poll.revision;
    const appliedAt = isSameRevision ? known.appliedAt : this.#now();
    const entry = { poll, appliedAt, isLatched: isSameRevision && known.isLatched };
    this.#entries.set(id, entry);
    if (!isSameRevision) this.#unsealed.delete(id);
    if (poll.isClosed) this.#latch(entry);
    return true;
  }

  /** Latches the poll if its time has passed; returns whether it is latched. */
  #latchByClock(entry: Entry): boolean {
    if (entry.isLatched) return true;
    const { closesAt, id, revision } = entry.poll;
    if (closesAt === undefined || this.#now() < closesAt) return false;
    this.#latch(entry);
    this.#log.info('poll closed', { poll: id, revision });
    return true;
  }

  #latch(entry: Entry): void {
    if (entry.isLatched) return;
    entry.isLatched = true;
    this.#unsealed.set(entry.poll.id, entry.poll.revision);
  }
}
