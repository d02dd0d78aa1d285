import type { ForeignSource } from '#audit/ownership.ts';
import { readIds } from '#audit/ownership.ts';
import type { NodeState } from '#audit/queues.ts';
import { type Outcomes, type SourceAccount, sumOutcomes } from '#audit/reconcile.ts';
import { nodeLabel } from '#audit/report.ts';
import type { Awaited } from '#db/final.ts';
import type { NodeState as EnrolledNode } from '#db/nodes.ts';
import { awaitedSentences } from './awaited.ts';
import type { LiveReport } from './live-audit.ts';

/** A node's queue and Redis. */
interface QueueView {
  /** The node's id, and its host's name; null while unknown. */
  readonly node: string | null;
  readonly name: string | null;
  readonly address: string;
  readonly reachable: boolean;
  readonly reason: string | null;
  readonly waiting: number;
  readonly active: number;
  readonly delayed: number;
  readonly failed: number;
  /** Age in milliseconds of the job that has waited longest; null if none waits. `stack/swarm/scale.sh` reads it. */
  readonly oldestMs: number | null;
  /** Bytes; `max` is 0 without a limit. */
  readonly memory: NodeState['memory'];
  readonly appendOnlyFile: NodeState['appendOnlyFile'];
}

/** A node ever enrolled, and the sums of its sources. `stack/swarm/retire.sh` reads these fields up to `lost`. */
export interface NodeView extends Outcomes {
  /** Its id. */
  readonly node: string;
  /** Its host's name. */
  readonly name: string;
  readonly state: EnrolledNode['state'];
  /** Whether the dashboard can read it now. */
  readonly reachable: boolean;
  /** Null while Postgres has no row of the node, after it was restored from a backup. */
  readonly enrolledAt: string | null;
  /** When a worker last read it; null if none has. */
  readonly readAt: string | null;
  readonly clockSkewMs: number | null;
  /** Accepted and without a receipt, according to Postgres. */
  readonly uncountedJobs: number;
  readonly uncountedVotes: number;
  /** Last, because it is text of an operator. */
  readonly writtenOffReason: string | null;
}

/** A closed poll that is not final. */
interface PollView extends Awaited {
  readonly poll: string;
  /** What it awaits, in sentences. */
  readonly reasons: readonly string[];
}

/** The audit as JSON. Numbers are votes, except those in `jobs`. */
export interface AuditView {
  readonly asOf: string;
  /** Time of the last complete reconciliation; null before the first. */
  readonly reconciledAt: string | null;
  readonly postgres: { readonly reachable: boolean; readonly reason: string | null };
  readonly total: Outcomes;
  readonly nodes: readonly NodeView[];
  readonly polls: readonly PollView[];
  /** Sources found on nodes that are not theirs. */
  readonly foreign: readonly ForeignSource[];
  readonly sources: readonly SourceAccount[];
  readonly queues: readonly QueueView[];
}

/** Returns a report for the page and for `GET /ledger`. */
export function auditView(report: LiveReport): AuditView {
  const { asOf, reconciledAt, rows, foreign, nodes, awaited, postgresFault } = report;
  return {
    asOf: isoOf(asOf),
    reconciledAt: reconciledAt === undefined ? null : isoOf(reconciledAt),
    postgres: { reachable: postgresFault === undefined, reason: postgresFault ?? null },
    total: sumOutcomes(rows),
    nodes: nodeViews(report),
    polls: [...awaited].map(([poll, what]) => pollView(poll, what, report)),
    foreign,
    sources: rows,
    queues: nodes.map(queueView),
  };
}

/** Returns every node of Postgres, and those in the accounts that Postgres does not have yet. */
function nodeViews({ enrolled, rows, nodes }: LiveReport): NodeView[] {
  const byNode = Map.groupBy(rows, ({ node }) => node);
  const reachable = readIds(nodes);
  const known = new Set(enrolled.map(({ id }) => id));
  const unknown = [...byNode]
    .filter(([id]) => !known.has(id))
    .map(([id, sources]) => unknownNode(id, sources[0]?.name ?? id));
  return [...enrolled, ...unknown].map((node) => ({
    node: node.id,
    name: node.name,
    state: node.state,
    reachable: reachable.has(node.id),
    enrolledAt: node.enrolledAt === null ? null : isoOf(node.enrolledAt),
    readAt: node.readAt === null ? null : isoOf(node.readAt),
    clockSkewMs: node.clockSkewMs,
    uncountedJobs: node.uncountedJobs,
    uncountedVotes: node.uncountedVotes,
    ...sumOutcomes(byNode.get(node.id) ?? []),
    writtenOffReason: node.writtenOffReason,
  }));
}

function unknownNode(
  id: string,
  name: string,
): Omit<EnrolledNode, 'enrolledAt'> & { readonly enrolledAt: null } {
  return {
    id,
    name,
    enrolledAt: null,
    readAt: null,
    clockSkewMs: null,
    state: 'enrolled',
    writtenOffReason: null,
    sources: 0,
    uncountedJobs: 0,
    uncountedVotes: 0,
  };
}

function pollView(poll: string, awaited: Awaited, { enrolled }: LiveReport): PollView {
  const nameOf = (id: string): string =>
    nodeLabel(enrolled.find((node) => node.id === id) ?? { id, name: id });
  return { poll, reasons: awaitedSentences(awaited, nameOf), ...awaited };
}

function queueView(state: NodeState): QueueView {
  const { name, id, host, fault, waiting, active, delayed, failed, oldestMs } = state;
  return {
    node: id ?? null,
    name: host ?? null,
    address: name,
    reachable: fault === undefined,
    reason: fault ?? null,
    waiting,
    active,
    delayed,
    failed,
    oldestMs,
    memory: state.memory,
    appendOnlyFile: state.appendOnlyFile,
  };
}

function isoOf(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}
