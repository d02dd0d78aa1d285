import type { TallyMismatch } from '../../db/audit.ts';
import {
  FATES,
  type Fates,
  type LedgerRow,
  nameLostJobs,
  sumFates,
} from '../../handlers/dashboard/settle.ts';
import { type Paint, plain, renderTable } from './screen.ts';

/** Lost jobs that people are told by name; programs are told of all. */
const LOST_JOBS_NAMED_MAX = 20;
/** With more sources than these, the old ones of which there is nothing to say share a line. */
const SOURCES_SHOWN_MAX = 20;

const NUMBER = new Intl.NumberFormat('en-US');

/** Something that could not be looked at. */
export interface BlindSpot {
  readonly what: string;
  readonly because: string;
}

/** All that an audit has found. */
export interface AuditReport {
  /** When it began, in milliseconds since 1970. */
  readonly asOf: number;
  /** Empty when Postgres could not be asked. */
  readonly rows: readonly LedgerRow[];
  /** Choices whose tally differs from a recount; `undefined` when Postgres could not be asked. */
  readonly mismatches: readonly TallyMismatch[] | undefined;
  readonly blindSpots: readonly BlindSpot[];
}

/** What it comes to: `bad` is certain, `unknown` means that what could not be looked at decides. */
export type Verdict = 'good' | 'bad' | 'unknown';

export const EXIT_CODES: Readonly<Record<Verdict, number>> = { good: 0, bad: 1, unknown: 2 };

/** A certain loss counts more than a node that does not answer: it stays lost whatever that node says. */
export function verdictOf({ rows, mismatches, blindSpots }: AuditReport): Verdict {
  if (rows.some(({ jobs }) => jobs.lost > 0) || (mismatches?.length ?? 0) > 0) return 'bad';
  return blindSpots.length > 0 || mismatches === undefined ? 'unknown' : 'good';
}

/**
 * Nodes of which Postgres knows and that nobody who answered knows: they are down, or they left the list.
 *
 * @param knownBefore sources that Postgres knew before the nodes were asked; any other may just be new
 * @param down what is known to be down already; a node that is named there is not named again
 */
export function unseenNodes(
  rows: readonly LedgerRow[],
  knownBefore: ReadonlySet<string>,
  down: readonly BlindSpot[],
): BlindSpot[] {
  const byNode = Map.groupBy(rows, ({ node }) => node);
  return [...byNode].flatMap(([node, all]) => {
    const unseen = all.filter(({ source, reachable }) => !reachable && knownBefore.has(source));
    const missing = unseen.reduce((sum, { jobs }) => sum + jobs.pending, 0);
    const isNamed = down.some(({ what }) => what.startsWith(`${node} `));
    const isAway = unseen.length === all.length && unseen.length > 0 && down.length > 0 && !isNamed;
    if (missing === 0 && !isAway) return [];
    const jobs = missing === 0 ? 'what it has' : `${count(missing, 'job')} that it accepted`;
    return [{ what: node, because: `no queue that answered is its own, so ${jobs} cannot be looked for` }];
  });
}

/** The report for programs; see `verdict`. Everything is counted in votes, except what is in `jobs`. */
export function auditJson(report: AuditReport): string {
  const { asOf, rows, mismatches, blindSpots } = report;
  return JSON.stringify(
    {
      asOf: new Date(asOf).toISOString(),
      verdict: verdictOf(report),
      total: sumFates(rows),
      lostJobs: nameLostJobs(rows, Number.POSITIVE_INFINITY).keys,
      sources: rows,
      tallies: mismatches === undefined ? null : { agree: mismatches.length === 0, mismatches },
      unreachable: blindSpots,
    },
    null,
    2,
  );
}

/** The report for people. */
export function auditText(report: AuditReport, target: string, paint: Paint = plain): string {
  const { asOf, rows, mismatches } = report;
  const time = new Date(asOf).toISOString().slice(0, 19).replace('T', ' ');
  return [
    `Audit of ${target}, ${time} UTC`,
    '',
    ...(mismatches === undefined ? [] : [auditTable(rows, paint), '']),
    ...conclusions(report, paint),
  ].join('\n');
}

function auditTable(rows: readonly LedgerRow[], paint: Paint): string {
  const { shown, summed } = rows.length > SOURCES_SHOWN_MAX ? sumOldOnes(rows) : { shown: rows, summed: [] };
  const lines: [string, Fates][] = shown.map((row) => [row.reachable ? row.source : `${row.source} ?`, row]);
  if (summed.length > 0) lines.push([`${count(summed.length, 'older source')}, settled`, sumFates(summed)]);
  lines.push(['all', sumFates(rows)]);
  const columns = FATES.map((fate) =>
    alignRight([fate.toUpperCase(), ...lines.map(([, row]) => NUMBER.format(row[fate]))]),
  );
  const cellsOf = (index: number): string[] => columns.map((column) => column[index] as string);
  return renderTable(
    ['SOURCE', ...cellsOf(0)],
    lines.map(([source], index) => [source, ...cellsOf(index + 1)]),
    paint,
  );
}

function alignRight(cells: readonly string[]): string[] {
  const width = Math.max(...cells.map(({ length }) => length));
  return cells.map((cell) => cell.padStart(width));
}

/** A node keeps a line for every process that ever ran on it; only its last ones are of interest. */
function sumOldOnes(rows: readonly LedgerRow[]): { shown: LedgerRow[]; summed: LedgerRow[] } {
  const newest = new Map<string, number>();
  for (const { source, node } of rows) {
    newest.set(node, Math.max(newest.get(node) ?? 0, startOf(source)));
  }
  const isOld = ({ source, node, jobs }: LedgerRow): boolean =>
    jobs.pending + jobs.failed + jobs.lost === 0 && startOf(source) < (newest.get(node) ?? 0);
  return { shown: rows.filter((row) => !isOld(row)), summed: rows.filter(isOld) };
}

/** The time at which a source started, which is in its name, in base 36. */
function startOf(source: string): number {
  return Number.parseInt(source.slice(source.lastIndexOf('.') + 1), 36);
}

function conclusions(report: AuditReport, paint: Paint): string[] {
  const { rows, mismatches, blindSpots } = report;
  const total = sumFates(rows);
  const blind = blindSpots.map(({ what, because }) =>
    paint('yellow', `Could not look at ${what}: ${because}.`),
  );
  if (mismatches === undefined) return blind;
  const { keys, more } = nameLostJobs(rows, LOST_JOBS_NAMED_MAX);
  const lost = keys.length + more;
  return [
    ...(total.failed > 0
      ? [paint('yellow', `${count(total.failed, 'vote')} in failed jobs: see the queues on the dashboard.`)]
      : []),
    ...blind,
    ...(lost > 0
      ? [
          paint(
            'red',
            `LOST: ${count(lost, 'job')} with ${count(total.lost, 'vote')}, neither in a queue nor in Postgres:`,
          ),
          ...keys.map((key) => `  ${key}`),
          ...(more > 0 ? [`  and ${NUMBER.format(more)} more`] : []),
        ]
      : [nothingLost(total, blindSpots, paint)]),
    ...(mismatches.length > 0
      ? mismatches.map(({ poll, choice, tally, recount }) =>
          paint(
            'red',
            `The tally of ${poll}/${choice} is ${NUMBER.format(tally)}, a recount gives ${NUMBER.format(recount)}.`,
          ),
        )
      : [paint('green', 'Tallies agree with a recount of all votes.')]),
  ];
}

function nothingLost({ pending }: Fates, blindSpots: readonly BlindSpot[], paint: Paint): string {
  if (blindSpots.length > 0)
    return 'Nothing is lost as far as could be seen; what is missing counts as pending.';
  const waiting = pending > 0 ? `, ${count(pending, 'vote')} of them on the way to Postgres` : '';
  return paint('green', `Nothing is lost: every accepted vote is accounted for${waiting}.`);
}

function count(number: number, noun: string): string {
  return `${NUMBER.format(number)} ${noun}${number === 1 ? '' : 's'}`;
}
