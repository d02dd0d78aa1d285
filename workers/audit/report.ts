import type { TallyMismatch } from '#db/audit.ts';
import type { NodeState } from '#db/nodes.ts';
import { type ForeignSource, type NodeReading, readIds } from './ownership.ts';
import { nameJobs, type SourceAccount, sumOutcomes } from './reconcile.ts';

export const NUMBER: Intl.NumberFormat = new Intl.NumberFormat('en-US');

/** A part that could not be read. */
export interface Unreachable {
  readonly what: string;
  readonly reason: string;
}

/** A node that cannot be read and whose uncounted votes an operator declared lost. */
interface WrittenOffNode {
  readonly id: string;
  readonly name: string;
  readonly reason: string;
}

/** The result of an audit. */
export interface AuditReport {
  /** Time of its start, in milliseconds since 1970. */
  readonly asOf: number;
  /** `undefined` when Postgres is unavailable. */
  readonly rows: readonly SourceAccount[] | undefined;
  /** Sources found on nodes that are not theirs. */
  readonly foreign: readonly ForeignSource[];
  readonly writtenOff: readonly WrittenOffNode[];
  /** Votes that arrived after their poll was final, by source. They are among the rejected ones. */
  readonly late: ReadonlyMap<string, number>;
  /** Choices whose tally differs from a recount; `undefined` when the votes were not recounted. */
  readonly mismatches: readonly TallyMismatch[] | undefined;
  readonly unreachable: readonly Unreachable[];
}

/** `bad` is certain; `unknown` depends on a part that could not be read. */
export type Verdict = 'good' | 'bad' | 'unknown';

export const EXIT_CODES: Readonly<Record<Verdict, number>> = { good: 0, bad: 1, unknown: 2 };

/** Returns the verdict. A certain fault outweighs an unreachable node, whose reading cannot change it. */
export function verdictOf({ rows = [], foreign, mismatches = [], unreachable }: AuditReport): Verdict {
  const isBad = rows.some(({ jobs, lost, unexplained }) => jobs.lost > 0 || lost > 0 || unexplained !== 0);
  if (isBad || foreign.length > 0 || mismatches.length > 0) return 'bad';
  return unreachable.length > 0 ? 'unknown' : 'good';
}

/** Returns whether an operator declared the node's uncounted votes lost; reading the node again revokes that. */
export function isWrittenOff({ writtenOffReason }: Pick<NodeState, 'writtenOffReason'>): boolean {
  return writtenOffReason !== null;
}

/**
 * Returns what could not be read. No node captures votes before Postgres has its row, so the audit is complete when every node
 * in use was read. An address that does not answer then belongs to a node that is retired or written off, if there is one.
 *
 * @param known the nodes in Postgres before the nodes were read
 * @param down addresses that do not answer
 */
export function unreadParts(
  known: readonly NodeState[],
  readings: readonly NodeReading[],
  rows: readonly SourceAccount[],
  down: readonly Unreachable[],
): Unreachable[] {
  const ids = readIds(readings);
  const unread = known.filter(({ id }) => !ids.has(id));
  const expected = unread.filter((node) => node.state !== 'retired' && !isWrittenOff(node));
  if (expected.length === 0 && down.length <= unread.length) return [];
  return [
    ...down,
    ...expected.map(({ id, name }) => {
      const missing = rows.filter(({ node }) => node === id).reduce((sum, { jobs }) => sum + jobs.pending, 0);
      const jobs = missing === 0 ? 'later votes of it' : `${count(missing, 'job')} that it accepted`;
      return {
        what: nodeLabel({ id, name }),
        reason: `none of the reachable queues belongs to it, so ${jobs} cannot be found`,
      };
    }),
  ];
}

/** Returns a node's name and id, for people. */
export function nodeLabel({ id, name }: { readonly id: string; readonly name: string }): string {
  return name === id ? id : `${name} (${id})`;
}

/** Returns the report as JSON. Numbers are votes, except those in `jobs`. */
export function auditJson(report: AuditReport): string {
  const { asOf, rows = [], foreign, writtenOff, late, mismatches, unreachable } = report;
  return JSON.stringify(
    {
      asOf: new Date(asOf).toISOString(),
      verdict: verdictOf(report),
      total: sumOutcomes(rows),
      lostJobs: nameJobs(rows, 'lost').keys,
      sources: rows,
      foreign,
      late: Object.fromEntries(late),
      writtenOff,
      tallies: mismatches === undefined ? null : { agree: mismatches.length === 0, mismatches },
      unreachable,
    },
    null,
    2,
  );
}

/** Returns `1 job`, `1,200 jobs`. */
export function count(number: number, noun: string): string {
  return `${NUMBER.format(number)} ${noun}${number === 1 ? '' : 's'}`;
}
