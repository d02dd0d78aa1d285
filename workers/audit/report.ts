import type { TallyMismatch } from '#db/audit.ts';
import { nameLostJobs, type SourceAccount, sumOutcomes } from './reconcile.ts';

export const NUMBER: Intl.NumberFormat = new Intl.NumberFormat('en-US');

/** A part that could not be read. */
export interface Unreachable {
  readonly what: string;
  readonly reason: string;
}

/** The result of an audit. */
export interface AuditReport {
  /** Time of its start, in milliseconds since 1970. */
  readonly asOf: number;
  /** Empty when Postgres is unavailable. */
  readonly rows: readonly SourceAccount[];
  /** Choices whose tally differs from a recount; `undefined` when Postgres is unavailable. */
  readonly mismatches: readonly TallyMismatch[] | undefined;
  readonly unreachable: readonly Unreachable[];
}

/** `bad` is certain; `unknown` depends on a part that could not be read. */
export type Verdict = 'good' | 'bad' | 'unknown';

export const EXIT_CODES: Readonly<Record<Verdict, number>> = { good: 0, bad: 1, unknown: 2 };

/** Returns the verdict. A certain loss outweighs an unreachable node, whose reading cannot change it. */
export function verdictOf({ rows, mismatches, unreachable }: AuditReport): Verdict {
  if (rows.some(({ jobs }) => jobs.lost > 0) || (mismatches?.length ?? 0) > 0) return 'bad';
  return unreachable.length > 0 || mismatches === undefined ? 'unknown' : 'good';
}

/**
 * Returns nodes that are in Postgres but in no reading: they are down, or left discovery.
 *
 * @param knownBefore sources in Postgres before the nodes were read; others may just be new
 * @param down nodes already known to be down, which are not repeated
 */
export function unseenNodes(
  rows: readonly SourceAccount[],
  knownBefore: ReadonlySet<string>,
  down: readonly Unreachable[],
): Unreachable[] {
  const byNode = Map.groupBy(rows, ({ node }) => node);
  return [...byNode].flatMap(([node, all]) => {
    const unseen = all.filter(({ source, reachable }) => !reachable && knownBefore.has(source));
    const missing = unseen.reduce((sum, { jobs }) => sum + jobs.pending, 0);
    const isNamed = down.some(({ what }) => what.startsWith(`${node} `));
    const isAway = unseen.length === all.length && unseen.length > 0 && down.length > 0 && !isNamed;
    if (missing === 0 && !isAway) return [];
    const jobs = missing === 0 ? 'its jobs' : `${count(missing, 'job')} that it accepted`;
    return [{ what: node, reason: `none of the reachable queues belongs to it, so ${jobs} cannot be found` }];
  });
}

/** Returns the report as JSON. Numbers are votes, except those in `jobs`. */
export function auditJson(report: AuditReport): string {
  const { asOf, rows, mismatches, unreachable } = report;
  return JSON.stringify(
    {
      asOf: new Date(asOf).toISOString(),
      verdict: verdictOf(report),
      total: sumOutcomes(rows),
      lostJobs: nameLostJobs(rows, Number.POSITIVE_INFINITY).keys,
      sources: rows,
      tallies: mismatches === undefined ? null : { agree: mismatches.length === 0, mismatches },
      unreachable: unreachable,
    },
    null,
    2,
  );
}

/** Returns `1 job`, `1,200 jobs`. */
export function count(number: number, noun: string): string {
  return `${NUMBER.format(number)} ${noun}${number === 1 ? '' : 's'}`;
}
