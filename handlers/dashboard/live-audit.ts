import { type ForeignSource, findForeign } from '#audit/ownership.ts';
import type { NodeQueue, NodeState } from '#audit/queues.ts';
import { type AuditInputs, nodesToList, reconcile, type SourceAccount } from '#audit/reconcile.ts';
import type { SourceAudit } from '#db/audit.ts';
import type { Awaited } from '#db/final.ts';
import type { NodeState as EnrolledNode } from '#db/nodes.ts';
import type { PollState } from '#db/poll-states.ts';
import { withDeadline } from '#runtime/deadline.ts';
import type { Log } from '#runtime/log.ts';

/** Shortest interval between reads of nodes and Postgres. */
const READ_INTERVAL_MS = 2_000;
const AUDIT_MS_MAX = 5_000;

/** What Postgres holds, read at once. */
export interface DatabaseState {
  readonly audits: readonly SourceAudit[];
  /** Every node ever enrolled. */
  readonly enrolled: readonly EnrolledNode[];
  /** What each closed poll that is not final awaits. */
  readonly awaited: ReadonlyMap<string, Awaited>;
  readonly polls: readonly PollState[];
}

/** The latest audit. `asOf` and `reconciledAt` are milliseconds since 1970. */
export interface LiveReport {
  readonly asOf: number;
  readonly nodes: readonly NodeState[];
  /** Time of the last complete reconciliation; `undefined` before the first. */
  readonly reconciledAt: number | undefined;
  readonly rows: readonly SourceAccount[];
  readonly foreign: readonly ForeignSource[];
  readonly enrolled: DatabaseState['enrolled'];
  readonly awaited: DatabaseState['awaited'];
  readonly polls: DatabaseState['polls'];
  /** Why Postgres is unavailable; `undefined` when it is available. */
  readonly postgresFault: string | undefined;
}

export interface LiveAuditOptions {
  readonly queues: { readonly all: readonly Pick<NodeQueue, 'name' | 'read'>[] };
  readonly readDatabase: () => Promise<DatabaseState>;
  readonly log: Log;
}

/** Reads ledgers, queues and Postgres in this order, and reconciles them. `AuditInputs` explains the order. */
export class LiveAudit {
  readonly #options: LiveAuditOptions;
  #report: LiveReport | undefined;
  /** Monotonic. */
  #readAt = Number.NEGATIVE_INFINITY;
  #isExpired = false;
  #reading: Promise<LiveReport> | undefined;
  #listed: ReadonlySet<string> = new Set();
  #known: ReadonlySet<string> = new Set();
  #fromDatabase = NOTHING_READ;

  constructor(options: LiveAuditOptions) {
    this.#options = options;
  }

  /** Discards the current report, after a change. */
  expire(): void {
    this.#isExpired = true;
  }

  /** Returns a report that is at most 2 s old. */
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
      let inputs = await this.#withDatabase(nodes);
      const listed = this.#listed;
      this.#listed = nodesToList(inputs);
      if (!this.#listed.isSubsetOf(listed)) {
        // Job ids must be read before Postgres, so everything is read again. Later rounds list the ids at once.
        nodes = await this.#readNodes();
        inputs = await this.#withDatabase(nodes);
      }
      const { enrolled, awaited, polls } = inputs;
      this.#fromDatabase = {
        reconciledAt: asOf,
        rows: reconcile(inputs),
        foreign: findForeign(inputs),
        enrolled,
        awaited,
        polls,
      };
      this.#report = { asOf, nodes, ...this.#fromDatabase, postgresFault: undefined };
    } catch (error) {
      this.#options.log.repeated('audit of Postgres failed', { error });
      this.#report = { asOf, nodes, ...this.#fromDatabase, postgresFault: (error as Error).message };
    }
    this.#readAt = readAt;
    return this.#report;
  }

  #readNodes(): Promise<NodeState[]> {
    return Promise.all(this.#options.queues.all.map((queue) => queue.read(this.#listed.has(queue.name))));
  }

  async #withDatabase(nodes: readonly NodeState[]): Promise<AuditInputs & DatabaseState> {
    const knownBefore = this.#known;
    const state = await withDeadline(this.#options.readDatabase(), AUDIT_MS_MAX, 'the audit of Postgres');
    this.#known = new Set(state.audits.map(({ source }) => source));
    return { nodes, knownBefore, ...state };
  }
}

/** The parts of a report that remain those of the last complete audit while Postgres is unavailable. */
type FromDatabase = Omit<LiveReport, 'asOf' | 'nodes' | 'postgresFault'>;

const NOTHING_READ: FromDatabase = {
  reconciledAt: undefined,
  rows: [],
  foreign: [],
  enrolled: [],
  awaited: new Map(),
  polls: [],
};
