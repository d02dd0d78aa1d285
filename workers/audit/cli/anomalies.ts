import { StartError } from '#dev/errors.ts';
import { renderTable } from '#dev/table.ts';
import { type Paint, plain, type Terminal } from '#dev/terminal.ts';
import { DeadlineError } from '#runtime/deadline.ts';
import { type AnomalyParts, type AnomalyReport, collectAnomalies } from '../anomalies.ts';
import { type AnomalySection, anomalyChapters } from '../anomaly-sections.ts';
import { postgresFault } from '../collect.ts';
import { utc } from './text.ts';

/**
 * Returns the anomaly report, with its progress on the terminal.
 *
 * @throws StartError when Postgres cannot be read in time or has no such poll
 */
export async function anomaliesWithProgress(
  { poll, ...parts }: Omit<AnomalyParts, 'step'>,
  progress: Terminal,
): Promise<AnomalyReport> {
  const report = await collectAnomalies({
    ...parts,
    poll,
    step: (label, work) => progress.step(label, work),
  }).catch((error: unknown) => {
    throw new StartError(
      error instanceof DeadlineError ? error.message : `Postgres cannot be read: ${postgresFault(error)}`,
    );
  });
  if (poll !== undefined && report.polls.length === 0) throw new StartError(`there is no poll ${poll}`);
  return report;
}

/** Returns the report as JSON. Times `at` are in milliseconds since 1970. */
export function anomaliesJson(report: AnomalyReport): string {
  return JSON.stringify({ ...report, asOf: new Date(report.asOf).toISOString() }, null, 2);
}

/** Returns the report as text for people. */
export function anomaliesText(report: AnomalyReport, target: string, paint: Paint = plain): string {
  return [
    `How votes of ${target} came in, ${utc(report.asOf)}. Numbers without a verdict: what is unusual may be innocent.`,
    ...anomalyChapters(report).flatMap(({ title, sections }) => [
      '',
      paint('bold', title.toUpperCase()),
      ...sections.flatMap((section) => ['', ...sectionLines(section, paint)]),
    ]),
  ].join('\n');
}

function sectionLines(
  { title, facts, unusual, innocent, heading, rows }: AnomalySection,
  paint: Paint,
): string[] {
  return [
    paint('bold', title),
    facts,
    ...(unusual === undefined ? [] : [`Unusual: ${unusual}`]),
    ...(innocent === undefined ? [] : [`Innocent: ${innocent}`]),
    ...(rows.length === 0 ? [] : [renderTable(heading, rows, paint, { rightAlignedFrom: 1 })]),
  ];
}
