import { randomUUID } from 'node:crypto';
import type { Db } from '#db/client.ts';
import { acquireLease, type Lease, releaseLease } from '#db/leases.ts';
import { type LedgerReading, mirrorLedgers } from '#db/ledgers.ts';
import type { LedgerEntry } from '#job';
import { withDeadline } from '#runtime/deadline.ts';
import type { Log } from '#runtime/log.ts';

/** Interval at which unchanged entries are stored too, which keeps their `observed_at` current. */
const REFRESH_INTERVAL_MS = 10_000;
const LEASE_NAME = 'ledger-mirror';
/** Another worker takes over when the holder has not renewed its lease for this long. */
export const LEASE_MS = 3_000;
const ROUND_INTERVAL_MS = 1_000;
/** Longest wait of a stopping worker for a round and the release of the lease. */
const STOP_MS_MAX = 2_000;

if (2 * ROUND_INTERVAL_MS >= LEASE_MS) {
  throw new RangeError('the lease must outlast a missed round: 2 * ROUND_INTERVAL_MS < LEASE_MS');
}

/** A node's ledger, as read. */
interface NodeLedger {
  readonly entries: ReadonlyMap<string, LedgerEntry>;
  readonly readAt: number;
}

/** What this process last stored of a node's ledger. */
interface StoredLedger extends NodeLedger {
  readonly refreshedAt: number;
}

export interface LedgerMirrorOptions {
  /** Not the committer's pool: on a slow disk the commits would wait for the mirror. One connection suffices. */
  readonly db: Db;
  readonly log: Log;
  /** Tests shorten it. */
  readonly roundIntervalMs?: number;
}

/**
 * Mirrors the nodes' ledgers to Postgres, so that the totals of a node outlive it.
 *
 * standby ──lease free or expired──▶ holder ──lease lost──▶ standby
 *
 * Every worker reads all ledgers, and one of them, the holder of a lease, stores those read since its last round in one
 * statement. Two holders at a time are harmless, see `mirrorLedgers`. Between refreshes only changed entries are stored: a
 * ledger keeps an entry for every process that ever ran on its node.
 */
export class LedgerMirror {
  readonly #options: LedgerMirrorOptions;
  readonly #lease: Lease = { name: LEASE_NAME, holder: randomUUID(), durationMs: LEASE_MS };
  readonly #read = new Map<string, NodeLedger>();
  readonly #stored = new Map<string, StoredLedger>();
  #timer: NodeJS.Timeout | undefined;
  #round: Promise<void> = Promise.resolve();
  #isHolder = false;
  #isStopped = false;

  constructor(options: LedgerMirrorOptions) {
    this.#options = options;
  }

  /**
   * Records a node's ledger for the next round.
   *
   * @param readAt before the read, in milliseconds since 1970
   */
  record(node: string, entries: ReadonlyMap<string, LedgerEntry>, readAt: number): void {
    this.#read.set(node, { entries, readAt });
  }

  /** Runs a round now and then every second. */
  start(): void {
    if (this.#isStopped) return;
    const { roundIntervalMs = ROUND_INTERVAL_MS } = this.#options;
    this.#round = this.round().then(() => {
      if (!this.#isStopped) this.#timer = setTimeout(() => this.start(), roundIntervalMs);
    });
  }

  /** Stops after the current round and releases the lease. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    const { db, log } = this.#options;
    const released = this.#round.then(() => (this.#isHolder ? releaseLease(db, this.#lease) : undefined));
    await withDeadline(released, STOP_MS_MAX, 'stopping the mirror').catch((error: unknown) => {
      // It expires by itself.
      log.debug('lease not released', { lease: LEASE_NAME, error });
    });
  }

  /** Acquires or renews the lease, and if that succeeds stores what was read since the last round. Never throws. */
  async round(): Promise<void> {
    const { db, log } = this.#options;
    try {
      const isHolder = await acquireLease(db, this.#lease);
      if (isHolder !== this.#isHolder) {
        log.info(isHolder ? 'lease acquired' : 'lease lost', { lease: LEASE_NAME });
      }
      this.#isHolder = isHolder;
      if (isHolder) await this.#store();
    } catch (error) {
      log.repeated('ledgers not mirrored', { error });
    }
  }

  async #store(): Promise<void> {
    const readings = new Map<string, LedgerReading>();
    const stored = new Map<string, StoredLedger>();
    for (const [node, ledger] of this.#read) {
      const last = this.#stored.get(node);
      if (last?.readAt === ledger.readAt) continue;
      const isRefresh = !last || ledger.readAt - last.refreshedAt >= REFRESH_INTERVAL_MS;
      for (const [source, entry] of ledger.entries) {
        if (!isRefresh && last.entries.get(source)?.seq === entry.seq) continue;
        addReading(readings, source, { ...entry, readAt: ledger.readAt });
      }
      stored.set(node, { ...ledger, refreshedAt: isRefresh ? ledger.readAt : last.refreshedAt });
    }
    await mirrorLedgers(this.#options.db, readings);
    for (const [node, ledger] of stored) this.#stored.set(node, ledger);
  }
}

/** A node reached by two addresses yields each source twice, and an upsert cannot write a row twice. */
function addReading(readings: Map<string, LedgerReading>, source: string, reading: LedgerReading): void {
  const other = readings.get(source) ?? reading;
  readings.set(source, {
    seq: Math.max(reading.seq, other.seq),
    votes: Math.max(reading.votes, other.votes),
    readAt: Math.max(reading.readAt, other.readAt),
  });
}
