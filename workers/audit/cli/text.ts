import { renderTable } from '#dev/table.ts';
import { type Paint, plain } from '#dev/terminal.ts';
import { startOf } from '#job';
import {
  nameJobs,
  OUTCOME_WORDS,
  OUTCOMES,
  type Outcomes,
  type SourceAccount,
  sumOutcomes,
  writtenOffJobs,
} from '../reconcile.ts';
import { type AuditReport, count, NUMBER, nodeLabel } from '../report.ts';

/** Lost jobs and sources at fault that are listed; the JSON lists all. */
const FAULTS_NAMED_MAX = 20;
/** With more sources, old ones that are complete are summed up in one line. */
const SOURCES_SHOWN_MAX = 20;

/** Returns the report as text for people. */
export function auditText(report: AuditReport, target: string, paint: Paint = plain): string {
  const { asOf, rows } = report;
  return [
    `Audit of ${target}, ${utc(asOf)}`,
    '',
    ...(rows === undefined ? [] : [auditTable(rows, paint), '']),
    ...conclusions(report, paint),
  ].join('\n');
}

/** Formats a time for people, to the second. @param at milliseconds since 1970 */
export function utc(at: number): string {
  return `${new Date(at).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
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
    ['SOURCE', ...OUTCOMES.map((outcome) => OUTCOME_WORDS[outcome].toUpperCase())],
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
  const isOld = ({ source, node, jobs, unexplained }: SourceAccount): boolean =>
    jobs.accepted === jobs.committed && unexplained === 0 && startOf(source) < (newest.get(node) ?? 0);
  return { shown: rows.filter((row) => !isOld(row)), summed: rows.filter(isOld) };
}

function conclusions(report: AuditReport, paint: Paint): string[] {
  const { rows, unreachable } = report;
  const unread = unreachable.map(({ what, reason }) => paint('yellow', `Unreachable: ${what}: ${reason}.`));
  if (rows === undefined) return unread;
  const faults = [...lostLines(rows, paint), ...unexplainedLines(rows, paint)];
  return [
    ...failedLines(rows, paint),
    ...unread,
    ...writtenOffLines(report, rows, paint),
    ...(faults.length > 0 ? faults : [nothingLost(report, rows, paint)]),
    ...lateLines(report, paint),
    ...foreignLines(report, paint),
    ...tallyLines(report, paint),
  ];
}

function failedLines(rows: readonly SourceAccount[], paint: Paint): string[] {
  const { failed } = sumOutcomes(rows);
  if (failed === 0) return [];
  const { keys, more } = nameJobs(rows, 'failed', FAULTS_NAMED_MAX);
  return [
    paint(
      'yellow',
      `${count(failed, 'vote')} in failed jobs: retry them in the queues of the dashboard, or write them off there.`,
    ),
    ...keys.map((key) => `  ${key}`),
    ...(more > 0 ? [`  and ${NUMBER.format(more)} more`] : []),
  ];
}

function writtenOffLines(
  { writtenOff }: AuditReport,
  rows: readonly SourceAccount[],
  paint: Paint,
): string[] {
  const nodes = writtenOff.map((node) => {
    const votes = sumOutcomes(rows.filter((row) => row.node === node.id)).writtenOff;
    return `Written off: ${nodeLabel(node)} with ${count(votes, 'known vote')}: ${node.reason}`;
  });
  const jobs = writtenOffJobs(rows).map(({ key, reason }) => `Written off: job ${key}: ${reason}`);
  const more = jobs.length - FAULTS_NAMED_MAX;
  return [
    ...nodes,
    ...jobs.slice(0, FAULTS_NAMED_MAX),
    ...(more > 0 ? [`Written off: ${count(more, 'more job')}`] : []),
  ].map((line) => paint('yellow', line));
}

function lostLines(rows: readonly SourceAccount[], paint: Paint): string[] {
  const { keys, more } = nameJobs(rows, 'lost', FAULTS_NAMED_MAX);
  if (keys.length + more === 0) return [];
  const votes = rows.reduce(
    (sum, { lost, unexplained }) => sum + Math.max(0, lost - Math.max(0, unexplained)),
    0,
  );
  const jobs = count(keys.length + more, 'job');
  return [
    paint('red', `LOST: ${jobs} with ${count(votes, 'vote')}, in no queue and without a receipt:`),
    ...keys.map((key) => `  ${key}`),
    ...(more > 0 ? [`  and ${NUMBER.format(more)} more`] : []),
  ];
}

function unexplainedLines(rows: readonly SourceAccount[], paint: Paint): string[] {
  const found = rows.filter(({ unexplained }) => unexplained !== 0);
  const lines = found.slice(0, FAULTS_NAMED_MAX).map(({ source, unexplained }) => {
    const votes = count(Math.abs(unexplained), 'vote');
    return unexplained > 0
      ? `LOST: ${votes} of ${source}: its ledger counts them, its receipts do not, and no job is missing.`
      : `UNEXPLAINED: the receipts of ${source} count ${votes} that its ledger does not.`;
  });
  const more = found.length - lines.length;
  return [...lines, ...(more > 0 ? [`and ${count(more, 'more source')}`] : [])].map((line) =>
    paint('red', line),
  );
}

function lateLines({ late }: AuditReport, paint: Paint): string[] {
  const votes = [...late.values()].reduce((sum, more) => sum + more, 0);
  if (votes === 0) return [];
  const named = [...late.keys()].slice(0, FAULTS_NAMED_MAX).join(', ');
  const more =
    late.size > FAULTS_NAMED_MAX ? `, and ${count(late.size - FAULTS_NAMED_MAX, 'more source')}` : '';
  const text = `Too late: ${count(votes, 'vote')} arrived after the poll was final and ${votes === 1 ? 'is' : 'are'} kept as rejected`;
  return [paint('yellow', `${text}: ${named}${more}.`)];
}

function foreignLines({ foreign }: AuditReport, paint: Paint): string[] {
  const lines = foreign.slice(0, FAULTS_NAMED_MAX).map(({ source, address, jobs, isInLedger }) => {
    const found = [
      ...(isInLedger ? ['in the ledger'] : []),
      ...(jobs > 0 ? [`${count(jobs, 'job')} in the queue`] : []),
    ];
    return `ALARM: ${address} holds ${source}, a source of another node: ${found.join(', ')}. Nothing of it is counted.`;
  });
  const more = foreign.length - lines.length;
  return [...lines, ...(more > 0 ? [`and ${count(more, 'more source')}`] : [])].map((line) =>
    paint('red', line),
  );
}

function tallyLines({ mismatches }: AuditReport, paint: Paint): string[] {
  if (mismatches === undefined) return ['Tallies were not recounted; --recount does.'];
  if (mismatches.length === 0) return [paint('green', 'Tallies agree with a recount of all votes.')];
  return mismatches.map(({ poll, choice, tally, recount }) =>
    paint(
      'red',
      `The tally of ${poll}/${choice} is ${NUMBER.format(tally)}, but a recount gives ${NUMBER.format(recount)}.`,
    ),
  );
}

function nothingLost(report: AuditReport, rows: readonly SourceAccount[], paint: Paint): string {
  if (report.unreachable.length > 0) {
    return 'No loss found in the reachable parts; missing jobs count as pending.';
  }
  const { pending, writtenOff } = sumOutcomes(rows);
  const waiting = pending > 0 ? `, ${count(pending, 'vote')} of them pending` : '';
  const hasWrittenOff = writtenOff > 0 || writtenOffJobs(rows).length > 0;
  if (hasWrittenOff || report.writtenOff.length > 0) {
    return `Beyond what was written off, every accepted vote is accounted for${waiting}.`;
  }
  return paint('green', `Nothing is lost: every accepted vote is accounted for${waiting}.`);
}
