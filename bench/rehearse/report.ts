import type { AnomalyChapter } from '#audit/anomaly-sections.ts';
import { OUTCOME_WORDS, OUTCOMES, type Outcomes } from '#audit/reconcile.ts';
import type { Interval } from '#kit/load/spec.ts';
import { htmlPage, htmlTable } from '../report/html.ts';
import { escapeHtml, type Line, lineChart } from '../report/plot.ts';
import { formatNumber, renderText, type Table } from '../report/table.ts';
import type { BacklogSeries } from './backlog.ts';
import { type GroupOutcome, offeredOf, type Rehearsal, type Verdict } from './verdict.ts';

const MARKS = { true: 'ok', false: 'MISS', undefined: '' };

/** All that the report shows. */
export interface Report {
  readonly startedAt: string;
  readonly poll: string;
  readonly targets: readonly string[];
  readonly voters: number;
  readonly minutes: number;
  readonly rehearsal: Rehearsal;
  readonly verdict: Verdict;
  readonly backlog: BacklogSeries;
  /** The audit of all nodes: also votes of other polls. */
  readonly outcomes: Outcomes;
  readonly anomalies: readonly AnomalyChapter[];
}

/** Returns the verdict for a terminal. */
export function verdictText({ verdict, rehearsal }: Pick<Report, 'verdict' | 'rehearsal'>): string {
  const faults = rehearsal.faults.map(
    ({ atSeconds, what }) => `  after ${formatNumber(atSeconds, 1)} s: ${what}`,
  );
  return [
    '',
    verdict.headline,
    '',
    renderText(goalsTable(verdict)),
    ...(faults.length > 0 ? ['', 'Faults:', ...faults] : []),
  ].join('\n');
}

/** Returns the report as one self-contained page. */
export function renderReport(report: Report): string {
  const { startedAt, poll, targets, voters, minutes, rehearsal, verdict, backlog, outcomes, anomalies } =
    report;
  const facts = [
    `${startedAt.slice(0, 16).replace('T', ' ')} UTC, hidden poll ${poll}`,
    `${formatNumber(voters, 0)} voters within ${formatNumber(minutes, 1)} minutes at ${targets.join(', ')}`,
  ];
  return htmlPage(
    `Turnout rehearsal, ${startedAt.slice(0, 16)}`,
    `<h1>${escapeHtml(verdict.headline)}</h1>
<p>${facts.map(escapeHtml).join('<br>')}</p>
${htmlTable(goalsTable(verdict))}
<section><h2>The crowd</h2>${htmlTable(groupsTable(rehearsal.groups))}
<p>Voters are those with an accepted vote, one with each connection before the crowd included. A vote without an answer may be
counted, so “counted” may be higher, never lower.</p>
${charts(rehearsal.groups, backlog).join('\n')}</section>
${rehearsal.faults.length === 0 ? '' : `<section><h2>Faults</h2>${htmlTable(faultsTable(rehearsal))}</section>`}
<section><h2>Audit</h2><p>All nodes, votes of other polls included.</p>${htmlTable(auditTable(outcomes))}</section>
<section><h2>How votes came in</h2><p>The anomaly report has numbers and no verdict. What it shows of this crowd and its bot is what
to compare the event with.</p>
${anomalies.flatMap(({ sections }) => sections.map(sectionHtml)).join('\n')}</section>`,
  );
}

function goalsTable({ goals }: Verdict): Table {
  return {
    headings: ['', '', 'measured', 'limit'],
    textColumns: 2,
    rows: goals.map(({ goal, measured, limit, isMet }) => [MARKS[`${isMet}`], goal, measured, limit]),
  };
}

function groupsTable(groups: readonly GroupOutcome[]): Table {
  return {
    headings: ['', 'offered', 'accepted', 'refused', 'failed', 'p50 ms', 'p99 ms', 'voters', 'counted'],
    textColumns: 1,
    rows: groups.map(({ group, result, counted }) => [
      group.label,
      ...[offeredOf(result), result.accepted, result.refused, result.failed].map((value) =>
        formatNumber(value, 0),
      ),
      ...[result.latency.p50, result.latency.p99].map((value) => formatNumber(value, 1)),
      ...(group.kind === 'page' ? ['', ''] : [result.voters, counted].map((value) => formatNumber(value, 0))),
    ]),
  };
}

function faultsTable({ faults }: Rehearsal): Table {
  return {
    headings: ['what', 'after s'],
    textColumns: 1,
    rows: faults.map(({ atSeconds, what }) => [what, formatNumber(atSeconds, 1)]),
  };
}

function auditTable(outcomes: Outcomes): Table {
  return {
    headings: OUTCOMES.map((outcome) => OUTCOME_WORDS[outcome]),
    textColumns: 0,
    rows: [OUTCOMES.map((outcome) => formatNumber(outcomes[outcome], 0))],
  };
}

function sectionHtml({
  title,
  facts,
  unusual,
  innocent,
  heading,
  rows,
}: AnomalyChapter['sections'][number]): string {
  const notes = [facts, unusual && `Unusual: ${unusual}`, innocent && `Innocent: ${innocent}`];
  return `<h3>${escapeHtml(title)}</h3><p>${notes
    .filter((note) => note !== undefined && note !== '')
    .map((note) => escapeHtml(note as string))
    .join('<br>')}</p>${rows.length === 0 ? '' : htmlTable({ headings: heading, rows, textColumns: 1 })}`;
}

function charts(groups: readonly GroupOutcome[], backlog: BacklogSeries): string[] {
  const votes = groups.filter(({ group }) => group.kind !== 'page').map(({ result }) => result.intervals);
  const seconds = Math.max(0, ...votes.map(({ length }) => length));
  const line = (name: string, pick: (intervals: readonly Interval[]) => number): Line => ({
    name,
    points: Array.from({ length: seconds }, (_, second) => [
      second,
      pick(votes.flatMap((intervals) => intervals[second] ?? [])),
    ]),
  });
  const sum = (name: string, key: keyof Interval): Line =>
    line(name, (intervals) => intervals.reduce((total, interval) => total + interval[key], 0));
  const sampled = (name: string, values: readonly number[]): Line => ({
    name,
    points: values.map((value, index) => [backlog.seconds[index] ?? Number.NaN, value]),
  });
  return [
    lineChart('votes', { x: 'seconds', y: 'votes/s' }, [
      sum('offered', 'offered'),
      sum('accepted', 'accepted'),
      sum('refused', 'refused'),
      sum('failed', 'failed'),
    ]),
    lineChart('answer to a vote, from the time due', { x: 'seconds', y: 'ms' }, [
      line('p99', (intervals) => Math.max(0, ...intervals.map(({ p99 }) => p99))),
      line('p50', (intervals) => Math.max(0, ...intervals.map(({ p50 }) => p50))),
    ]),
    lineChart('count', { x: 'seconds', y: 'votes' }, [
      sampled('counted', backlog.counted),
      sampled('waiting', backlog.waiting),
    ]),
  ];
}
