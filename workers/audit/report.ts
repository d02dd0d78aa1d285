import type { TallyMismatch } from '#db/audit.ts';
import { nameLostJobs, type SourceAccount, sumOutcomes } from './reconcile.ts';

export const NUMBER: Intl.NumberFormat = new Intl.NumberFormat('en-US');

/** Something that could not be looked at. */
export interface Unreachable {
  readonly what: string;
  readonly reason: string;
}

/** All that an audit has found. */
export interface AuditReport {
  /** When it began, in milliseconds since 1970. */
  readonly asOf: number;
  /** Empty when Postgres could not be asked. */
  readonly rows: readonly SourceAccount[];
  /** Choices whose tally differs from a recount; `undefined` when Postgres could not be asked. */
  readonly mismatches: readonly TallyMismatch[] | undefined;
  readonly unreachable: readonly Unreachable[];
}

/** What it comes to: `bad` is certain, `unknown` means that what could not be looked at decides. */
export type Verdict = 'good' | 'bad' | 'unknown';

export const EXIT_CODES: Readonly<Record<Verdict, number>> = { good: 0, bad: 1, unknown: 2 };

/** A certain loss counts more than a node that does not answer: it stays lost whatever that node says. */
export function verdictOf({ rows, mismatches, unreachable }: AuditReport): Verdict {
  if (rows.some(({ jobs }) => jobs.lost > 0) || (mismatches?.length ?? 0) > 0) return 'bad';
  return unreachable.length > 0 || mismatches === undefined ? 'unknown' : 'good';
}

/**
 * Nodes of which Postgres knows and that nobody who answered knows: they are down, or they left the list.
 *
 * @param knownBefore sources that Postgres knew before the nodes were asked; any other may just be new
 * @param down what is known to be down already; a node that is named there is not named again
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
    const jobs = missing === 0 ? 'what it has' : `${count(missing, 'job')} that it accepted`;
    return [{ what: node, reason: `no queue that answered is its own, so ${jobs} cannot be looked for` }];
  });
}

/** The report for programs; see `verdict`. Everything is counted in votes, except what is in `jobs`. */
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
