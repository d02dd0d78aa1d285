import { median } from '#kit/quantile.ts';
import { METRIC_NAMES, METRICS, type MetricName, type Sample } from '../measure/sample.ts';
import { type Summary, summarize } from '../measure/statistics.ts';

/** All rounds of one side under the same parameters. What was measured several times in a round is its median there. */
export interface Row {
  readonly side: string;
  readonly params: Readonly<Record<string, number>>;
  readonly metrics: Readonly<Partial<Record<MetricName, Summary>>>;
  /** The values behind the summaries, by round. */
  readonly values: Readonly<Partial<Record<MetricName, readonly number[]>>>;
}

/** Puts the rounds of a scenario together, in the order in which they were first measured. */
export function rowsOf(samples: readonly Sample[], scenario: string): Row[] {
  const groups = new Map<string, Sample[]>();
  for (const sample of samples.filter((one) => one.scenario === scenario)) {
    const key = JSON.stringify([sample.side, sample.params]);
    groups.set(key, [...(groups.get(key) ?? []), sample]);
  }
  return [...groups.values()].map((group) => {
    const [first] = group as [Sample, ...Sample[]];
    const values: Partial<Record<MetricName, readonly number[]>> = {};
    const metrics: Partial<Record<MetricName, Summary>> = {};
    for (const name of METRIC_NAMES) {
      const found = [...Map.groupBy(group, ({ round }) => round).values()].flatMap((round) => {
        const measured = round.map((sample) => sample.metrics[name]).filter((value) => value !== undefined);
        return measured.length === 0 ? [] : [median(measured)];
      });
      if (found.length === 0) continue;
      values[name] = found;
      metrics[name] = summarize(found);
    }
    return { side: first.side, params: first.params, metrics, values };
  });
}

/** The row of one side whose parameters have the given values; it may have others beside them. */
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

/** The names of the scenarios that were measured, in their order. */
export function scenariosOf(samples: readonly Sample[]): string[] {
  return [...new Set(samples.map(({ scenario }) => scenario))];
}

/** A table as text: a line of headings and one for each row. */
export interface TextTable {
  readonly headings: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** Medians; where there are several rounds, with their spread: half of what lies between the lowest and the highest. */
export function textTable(rows: readonly Row[]): TextTable {
  const params = [...new Set(rows.flatMap((row) => Object.keys(row.params)))];
  const names = METRIC_NAMES.filter((name) => rows.some(({ metrics }) => metrics[name] !== undefined));
  const headings = names.map((name) => {
    const { label, unit } = METRICS[name];
    return unit === '' || label.includes('/') ? label : `${label} ${unit}`;
  });
  return {
    headings: ['', ...params.map(spaced), ...headings],
    rows: rows.map((row) => [
      row.side,
      ...params.map((name) => formatNumber(row.params[name], 0)),
      ...names.map((name) => formatSummary(name, row.metrics[name])),
    ]),
  };
}

function formatSummary(name: MetricName, summary: Summary | undefined): string {
  if (!summary) return '';
  const { digits } = METRICS[name];
  const text = formatNumber(summary.median, digits);
  if (summary.count === 1 || summary.max === summary.min) return text;
  return `${text} ±${formatNumber((summary.max - summary.min) / 2, digits)}`;
}

/** Groups of three digits, as in 1,234.5. */
export function formatNumber(value: number | undefined, digits: number): string {
  if (value === undefined) return '';
  return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function spaced(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}

/** The table for a terminal: first column to the left, numbers to the right. */
export function renderText({ headings, rows }: TextTable): string {
  const lines = [headings, ...rows];
  const widths = headings.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines
    .map((line) =>
      line
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
