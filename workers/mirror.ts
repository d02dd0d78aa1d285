import type { LedgerEntry } from '#job';

/** Unchanged entries are written too, this often, so that everybody sees how fresh the mirror is. */
const REFRESH_INTERVAL_MS = 10_000;

/** Stores ledger entries in Postgres, see `mirrorLedger`. */
type Store = (entries: ReadonlyMap<string, LedgerEntry>, readAt: Date) => Promise<void>;

/**
 * Mirrors the ledgers of the nodes, so that what a node has accepted is known even when the node is gone. What has not
 * changed since the last time is mostly left out: a ledger keeps a line for every process that ever ran on its node.
 */
export class LedgerMirror {
  readonly #store: Store;
  readonly #nodes = new Map<string, { stored: ReadonlyMap<string, LedgerEntry>; refreshedAt: number }>();

  constructor(store: Store) {
    this.#store = store;
  }

  /**
   * @param readAt when the node was asked, in milliseconds since 1970
   * @throws what the store throws; the next call tries again
   */
  async update(node: string, ledger: ReadonlyMap<string, LedgerEntry>, readAt: number): Promise<void> {
    const before = this.#nodes.get(node);
    const isRefresh = !before || readAt - before.refreshedAt >= REFRESH_INTERVAL_MS;
    const news = isRefresh
      ? ledger
      : new Map([...ledger].filter(([source, { seq }]) => before.stored.get(source)?.seq !== seq));
    await this.#store(news, new Date(readAt));
    this.#nodes.set(node, { stored: ledger, refreshedAt: isRefresh ? readAt : before.refreshedAt });
  }
}
