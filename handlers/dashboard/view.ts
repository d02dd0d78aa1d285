import type { NodeState } from '#audit/queues.ts';
import { type Outcomes, type SourceAccount, sumOutcomes } from '#audit/reconcile.ts';
import type { LiveReport } from './live-audit.ts';

/** A node's queue and Redis. */
interface QueueView {
  /** The node's names in its ledger; empty while unknown. */
  readonly nodes: readonly string[];
  readonly address: string;
  readonly reachable: boolean;
  readonly reason: string | null;
  readonly waiting: number;
  readonly active: number;
  readonly delayed: number;
  readonly failed: number;
  /** Bytes; `max` is 0 without a limit. */
  readonly memory: NodeState['memory'];
  readonly appendOnlyFile: NodeState['appendOnlyFile'];
}

/** The audit as JSON. Numbers are votes, except those in `jobs`. */
export interface AuditView {
  readonly asOf: string;
  /** Time of the last complete reconciliation; null before the first. */
  readonly reconciledAt: string | null;
  readonly postgres: { readonly reachable: boolean; readonly reason: string | null };
  readonly total: Outcomes;
  readonly nodes: readonly (Outcomes & {
    readonly node: string;
    readonly reachable: boolean;
    readonly retired: boolean;
  })[];
  readonly sources: readonly SourceAccount[];
  readonly queues: readonly QueueView[];
}

/** Returns a report for the page and for `GET /ledger`. */
export function auditView({ asOf, reconciledAt, rows, nodes, postgresFault }: LiveReport): AuditView {
  const byNode = Map.groupBy(rows, ({ node }) => node);
  return {
    asOf: new Date(asOf).toISOString(),
    reconciledAt: reconciledAt === undefined ? null : new Date(reconciledAt).toISOString(),
    postgres: { reachable: postgresFault === undefined, reason: postgresFault ?? null },
    total: sumOutcomes(rows),
    nodes: [...byNode]
      .map(([node, sources]) => ({
        node,
        reachable: sources.every(({ reachable }) => reachable),
        retired: sources.every(({ retired }) => retired),
        ...sumOutcomes(sources),
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
    reason: fault ?? null,
    waiting,
    active,
    delayed,
    failed,
    memory,
    appendOnlyFile,
  };
}
