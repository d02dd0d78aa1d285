import { renderTable } from '#dev/table.ts';
import { type Paint, plain } from '#dev/terminal.ts';
import { nameLostJobs, OUTCOMES, type Outcomes, type SourceAccount, sumOutcomes } from '../reconcile.ts';
import { type AuditReport, count, NUMBER, type Unreachable } from '../report.ts';

/** Lost jobs listed by key; the JSON lists all. */
const LOST_JOBS_NAMED_MAX = 20;
/** With more sources, old ones that are complete are summed up in one line. */
const SOURCES_SHOWN_MAX = 20;

/** Returns the report as text for people. */
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

function auditTable(rows: readonly SourceAccount[], paint: Paint): string {
  const { shown, summed } = rows.length > SOURCES_SHOWN_MAX ? sumOldOnes(rows) : { shown: rows, summed: [] };
  const lines: [string, Outcomes][] = shown.map((row) => [
    row.reachable ? row.source : `${row.source} ?`,
    row,
  ]);
  if (summed.length > 0)
    lines.push([`${count(summed.length, 'older source')}, complete`, sumOutcomes(summed)]);
  lines.push(['all', sumOutcomes(rows)]);
  return renderTable(
    ['SOURCE', ...OUTCOMES.map((outcome) => outcome.toUpperCase())],
    lines.map(([source, row]) => [source, ...OUTCOMES.map((outcome) => NUMBER.format(row[outcome]))]),
    paint,
    { rightAlignedFrom: 1 },
  );
}

/** Splits off old complete sources: a node's ledger keeps an entry for every process that ever ran on it. */
function sumOldOnes(rows: readonly SourceAccount[]): { shown: SourceAccount[]; summed: SourceAccount[] } {
  const newest = new Map<string, number>();
  for (const { source, node } of rows) {
    newest.set(node, Math.max(newest.get(node) ?? 0, startOf(source)));
  }
  const isOld = ({ source, node, jobs }: SourceAccount): boolean =>
    jobs.pending + jobs.failed + jobs.lost === 0 && startOf(source) < (newest.get(node) ?? 0);
  return { shown: rows.filter((row) => !isOld(row)), summed: rows.filter(isOld) };
}

/** Returns the start time of a source, which its name holds in base 36. */
function startOf(source: string): number {
  return Number.parseInt(source.slice(source.lastIndexOf('.') + 1), 36);
}

function conclusions(report: AuditReport, paint: Paint): string[] {
  const { rows, mismatches, unreachable } = report;
  const total = sumOutcomes(rows);
  const unread = unreachable.map(({ what, reason }) => paint('yellow', `Unreachable: ${what}: ${reason}.`));
  if (mismatches === undefined) return unread;
  const { keys, more } = nameLostJobs(rows, LOST_JOBS_NAMED_MAX);
  const lost = keys.length + more;
  return [
    ...(total.failed > 0
      ? [
          paint(
            'yellow',
            `${count(total.failed, 'vote')} in failed jobs: retry them in the queues of the dashboard.`,
          ),
        ]
      : []),
    ...unread,
    ...(lost > 0
      ? [
          paint(
            'red',
            `LOST: ${count(lost, 'job')} with ${count(total.lost, 'vote')}, in no queue and without a receipt:`,
          ),
          ...keys.map((key) => `  ${key}`),
          ...(more > 0 ? [`  and ${NUMBER.format(more)} more`] : []),
        ]
      : [nothingLost(total, unreachable, paint)]),
    ...(mismatches.length > 0
      ? mismatches.map(({ poll, choice, tally, recount }) =>
          paint(
            'red',
            `The tally of ${poll}/${choice} is ${NUMBER.format(tally)}, but a recount gives ${NUMBER.format(recount)}.`,
          ),
        )
      : [paint('green', 'Tallies agree with a recount of all votes.')]),
  ];
}

function nothingLost({ pending }: Outcomes, unreachable: readonly Unreachable[], paint: Paint): string {
  if (unreachable.length > 0) return 'No loss found in the reachable parts; missing jobs count as pending.';
  const waiting = pending > 0 ? `, ${count(pending, 'vote')} of them pending` : '';
  return paint('green', `Nothing is lost: every accepted vote is accounted for${waiting}.`);
}
