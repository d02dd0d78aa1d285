import { renderTable } from '#dev/table.ts';
import { median } from '#kit/quantile.ts';
import { METRIC_NAMES, METRICS, type MetricName, type Sample } from '../measure/sample.ts';
import { type Summary, summarize } from '../measure/statistics.ts';

/** All rounds of one side with the same parameters. Several measurements in one round count as their median. */
export interface Row {
  readonly side: string;
  readonly params: Readonly<Record<string, number>>;
  readonly passesThrough: string | undefined;
  readonly nodeFlags: readonly string[] | undefined;
  readonly metrics: Readonly<Partial<Record<MetricName, Summary>>>;
  /** The values of the rounds, in their order. */
  readonly values: Readonly<Partial<Record<MetricName, readonly number[]>>>;
}

/** Returns the rows of a scenario, in the order in which they were first measured. */
export function rowsOf(samples: readonly Sample[], scenario: string): Row[] {
  const own = samples.filter((sample) => sample.scenario === scenario);
  const groups = Map.groupBy(own, ({ side, params }) => JSON.stringify([side, params]));
  return [...groups.values()].map((group) => {
    const [first] = group as [Sample, ...Sample[]];
    const rounds = [...Map.groupBy(group, ({ round }) => round).values()];
    const values: Partial<Record<MetricName, readonly number[]>> = {};
    const metrics: Partial<Record<MetricName, Summary>> = {};
    for (const name of METRIC_NAMES) {
      const found = rounds.flatMap((round) => {
        const measured = round.map((sample) => sample.metrics[name]).filter((value) => value !== undefined);
        return measured.length === 0 ? [] : [median(measured)];
      });
      if (found.length === 0) continue;
      values[name] = found;
      metrics[name] = summarize(found);
    }
    const { side, params, passesThrough, nodeFlags } = first;
    return { side, params, passesThrough, nodeFlags, metrics, values };
  });
}

/** Returns the row of a side whose parameters include the given values. */
export function findRow(
  samples: readonly Sample[],
  scenario: string,
  side: string,
  params: Readonly<Record<string, number>>,
): Row | undefined {
  return rowsOf(samples, scenario).find(
    (row) => row.side === side && Object.entries(params).every(([name, value]) => row.params[name] === value),
  );
}

/** Returns the names of the scenarios that were measured, in their order. */
export function scenariosOf(samples: readonly Sample[]): string[] {
  return [...new Set(samples.map(({ scenario }) => scenario))];
}

/** A table of text cells, for a terminal and for a page. */
export interface Table {
  readonly headings: readonly string[];
  /** The number of leading columns with text; the others contain numbers. */
  readonly textColumns: number;
  readonly rows: readonly (readonly string[])[];
}

/** Returns medians; of several rounds with ± half of their range. */
export function resultTable(rows: readonly Row[]): Table {
  const params = [...new Set(rows.flatMap((row) => Object.keys(row.params)))];
  const names = METRIC_NAMES.filter((name) => rows.some(({ metrics }) => metrics[name] !== undefined));
  const hasPath = rows.some(({ passesThrough }) => passesThrough !== undefined);
  const headings = names.map((name) => {
    const { label, unit } = METRICS[name];
    return unit === '' || label.includes('/') ? label : `${label} ${unit}`;
  });
  return {
    headings: ['', ...(hasPath ? ['passes through'] : []), ...params.map(spaced), ...headings],
    textColumns: hasPath ? 2 : 1,
    rows: rows.map((row) => [
      row.side,
      ...(hasPath ? [row.passesThrough ?? ''] : []),
      ...params.map((name) => formatNumber(row.params[name], 0)),
      ...names.map((name) => formatSummary(name, row.metrics[name])),
    ]),
  };
}

/** Returns one line for each set of Node flags, with the sides that ran with it. */
export function nodeFlagLines(rows: readonly Row[]): string[] {
  const recorded = rows.filter(({ nodeFlags }) => nodeFlags !== undefined);
  return [...Map.groupBy(recorded, ({ nodeFlags }) => nodeFlags?.join(' ') || 'none')].map(
    ([flags, own]) => `Node flags: ${flags} (${[...new Set(own.map(({ side }) => side))].join('; ')})`,
  );
}

function formatSummary(name: MetricName, summary: Summary | undefined): string {
  if (!summary) return '';
  const { digits } = METRICS[name];
  const text = formatNumber(summary.median, digits);
  if (summary.count === 1 || summary.max === summary.min) return text;
  return `${text} ±${formatNumber((summary.max - summary.min) / 2, digits)}`;
}

/** Groups digits by three: 1,234.5. */
export function formatNumber(value: number | undefined, digits: number): string {
  if (value === undefined) return '';
  return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function spaced(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

/** Returns the table for a terminal. */
export function renderText({ headings, rows, textColumns }: Table): string {
  return renderTable(headings, rows, undefined, { rightAlignedFrom: textColumns });
}
