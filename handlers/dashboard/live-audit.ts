import type { NodeQueue, NodeState } from '#audit/queues.ts';
import { type AuditInputs, nodesToList, reconcile, type SourceAccount } from '#audit/reconcile.ts';
import type { SourceAudit } from '#db/audit.ts';
import { withDeadline } from '#runtime/deadline.ts';
import type { Log } from '#runtime/log.ts';

/** However many ask, nodes and Postgres are asked no more often than this. */
const READ_INTERVAL_MS = 2_000;
const AUDIT_MS_MAX = 5_000;

/** What the dashboard shows. `asOf` and `settledAt` are milliseconds since 1970. */
export interface LiveReport {
  readonly asOf: number;
  readonly nodes: readonly NodeState[];
  /** The last time that Postgres could be asked as well; `undefined` when it never could. */
  readonly settledAt: number | undefined;
  readonly rows: readonly SourceAccount[];
  /** Why Postgres cannot be asked; `undefined` when it can. */
  readonly postgresFault: string | undefined;
}

export interface LiveAuditOptions {
  readonly queues: { readonly all: readonly Pick<NodeQueue, 'name' | 'read'>[] };
  readonly audit: () => Promise<readonly SourceAudit[]>;
  readonly log: Log;
}

/** Reads ledgers, queues and Postgres, in this order, and settles them. See `AuditInputs` for why in this order. */
export class LiveAudit {
  readonly #options: LiveAuditOptions;
  #report: LiveReport | undefined;
  /** By a clock that nobody sets; `asOf` is for the readers. */
  #readAt = Number.NEGATIVE_INFINITY;
  #isExpired = false;
  #reading: Promise<LiveReport> | undefined;
  #listed: ReadonlySet<string> = new Set();
  #known: ReadonlySet<string> = new Set();

  constructor(options: LiveAuditOptions) {
    this.#options = options;
  }

  /** From now on a report is wanted that is newer than this moment: something was changed. */
  expire(): void {
    this.#isExpired = true;
  }

  /** A report that is at most 2 s old. */
  latest(): Promise<LiveReport> {
    const isRecent = performance.now() - this.#readAt < READ_INTERVAL_MS;
    if (this.#report && isRecent && !this.#isExpired) return Promise.resolve(this.#report);
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #read(): Promise<LiveReport> {
    const asOf = Date.now();
    const readAt = performance.now();
    this.#isExpired = false;
    let nodes = await this.#readNodes();
    try {
      let inputs = await this.#withAudits(nodes);
      const listed = this.#listed;
      this.#listed = nodesToList(inputs);
      if (!this.#listed.isSubsetOf(listed)) {
        // Ids must be read before Postgres, so all is read once more. While they are needed they are read at once.
        nodes = await this.#readNodes();
        inputs = await this.#withAudits(nodes);
      }
      const rows = reconcile(inputs);
      this.#report = { asOf, nodes, settledAt: asOf, rows, postgresFault: undefined };
    } catch (error) {
      this.#options.log.repeated('Postgres cannot be audited', { error });
      const { settledAt, rows = [] } = this.#report ?? {};
      this.#report = { asOf, nodes, settledAt, rows, postgresFault: (error as Error).message };
    }
    this.#readAt = readAt;
    return this.#report;
  }

  #readNodes(): Promise<NodeState[]> {
    return Promise.all(this.#options.queues.all.map((queue) => queue.read(this.#listed.has(queue.name))));
  }

  async #withAudits(nodes: readonly NodeState[]): Promise<AuditInputs> {
    const knownBefore = this.#known;
    const audits = await withDeadline(this.#options.audit(), AUDIT_MS_MAX, 'auditing Postgres');
    this.#known = new Set(audits.map(({ source }) => source));
    return { nodes, audits, knownBefore };
  }
}
