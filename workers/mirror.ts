import type { LedgerEntry } from '#job';

/** Interval at which unchanged entries are stored too, which keeps their `observed_at` current. */
const REFRESH_INTERVAL_MS = 10_000;

/** Stores ledger entries in Postgres, see `mirrorLedger`. */
type Store = (entries: ReadonlyMap<string, LedgerEntry>, readAt: Date) => Promise<void>;

/**
 * Mirrors the nodes' ledgers, so that the totals of a node outlive it. Between refreshes only changed entries are
 * stored: a ledger keeps an entry for every process that ever ran on its node.
 */
export class LedgerMirror {
  readonly #store: Store;
  readonly #nodes = new Map<string, { stored: ReadonlyMap<string, LedgerEntry>; refreshedAt: number }>();

  constructor(store: Store) {
    this.#store = store;
  }

  /**
   * Stores a node's ledger.
   *
   * @param readAt when the ledger was read, in milliseconds since 1970
   * @throws what the store throws; the next call stores the same changes again
   */
  async update(node: string, ledger: ReadonlyMap<string, LedgerEntry>, readAt: number): Promise<void> {
    const last = this.#nodes.get(node);
    const isRefresh = !last || readAt - last.refreshedAt >= REFRESH_INTERVAL_MS;
    const entries = isRefresh
      ? ledger
      : new Map([...ledger].filter(([source, { seq }]) => last.stored.get(source)?.seq !== seq));
    await this.#store(entries, new Date(readAt));
    this.#nodes.set(node, { stored: ledger, refreshedAt: isRefresh ? readAt : last.refreshedAt });
  }
}
