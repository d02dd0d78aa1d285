import type { LedgerReport } from './ledger.ts';
import type { NodeState } from './queues.ts';
import { type Fates, type LedgerRow, sumFates } from './settle.ts';

/** A node's queue and Redis, as the dashboard tells them. */
interface QueueView {
  /** The names its handlers gave the node; empty while none is known. */
  readonly nodes: readonly string[];
  readonly address: string;
  readonly reachable: boolean;
  readonly because: string | null;
  readonly waiting: number;
  readonly active: number;
  readonly delayed: number;
  readonly failed: number;
  /** Bytes; `max` is 0 when there is no limit. */
  readonly memory: NodeState['memory'];
  readonly appendOnlyFile: NodeState['appendOnlyFile'];
}

/** The ledger as JSON. Everything is counted in votes, except what is in `jobs`. */
export interface LedgerView {
  readonly asOf: string;
  /** When it was last possible to account for everything; null when it never was. */
  readonly settledAt: string | null;
  readonly postgres: { readonly reachable: boolean; readonly because: string | null };
  readonly total: Fates;
  readonly nodes: readonly (Fates & {
    readonly node: string;
    readonly reachable: boolean;
    readonly retired: boolean;
  })[];
  readonly sources: readonly LedgerRow[];
  readonly queues: readonly QueueView[];
}

/** What the page and `GET /ledger` show of a report. */
export function viewOf({ asOf, settledAt, rows, nodes, postgresFault }: LedgerReport): LedgerView {
  const byNode = Map.groupBy(rows, ({ node }) => node);
  return {
    asOf: new Date(asOf).toISOString(),
    settledAt: settledAt === undefined ? null : new Date(settledAt).toISOString(),
    postgres: { reachable: postgresFault === undefined, because: postgresFault ?? null },
    total: sumFates(rows),
    nodes: [...byNode]
      .map(([node, sources]) => ({
        node,
        reachable: sources.every(({ reachable }) => reachable),
        retired: sources.every(({ retired }) => retired),
        ...sumFates(sources),
      }))
      .toSorted((a, b) => (a.node < b.node ? -1 : 1)),
    sources: rows,
    queues: nodes.map(queueView),
  };
}

function queueView(state: NodeState): QueueView {
  const { name, nodes, fault, waiting, active, delayed, failed, memory, appendOnlyFile } = state;
  return {
    nodes,
    address: name,
    reachable: fault === undefined,
    because: fault ?? null,
    waiting,
    active,
    delayed,
    failed,
    memory,
    appendOnlyFile,
  };
}
