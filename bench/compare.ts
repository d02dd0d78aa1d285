import { median } from '#kit/quantile.ts';
import { METRIC_NAMES, METRICS, type MetricName, type Sample } from './measure/sample.ts';
import { bootstrapRatio, mannWhitney } from './measure/statistics.ts';
import { formatNumber, rowsOf, scenariosOf, type Table } from './report/table.ts';

/** The significance level. Five rounds a side can reach p = 2 / 252. */
const P_MAX = 0.01;
const ROUNDS_MIN = 5;

/** One metric of one row, before and after. */
export interface Comparison {
  readonly scenario: string;
  readonly row: string;
  readonly metric: MetricName;
  readonly before: number;
  readonly after: number;
  /** The median after divided by the median before, with the bounds of its 95 % interval. */
  readonly ratio: { readonly ratio: number; readonly low: number; readonly high: number };
  readonly p: number;
  readonly verdict: 'better' | 'worse' | 'no difference shown' | 'too few rounds';
}

/** Compares all metrics that two runs share: significance by Mann-Whitney, effect size by bootstrap. */
export function compareResults(before: readonly Sample[], after: readonly Sample[]): Comparison[] {
  return scenariosOf(after).flatMap((scenario) => {
    const rowsBefore = rowsOf(before, scenario);
    return rowsOf(after, scenario).flatMap((row) => {
      const key = JSON.stringify([row.side, row.params]);
      const rowBefore = rowsBefore.find(({ side, params }) => JSON.stringify([side, params]) === key);
      if (!rowBefore) return [];
      return METRIC_NAMES.flatMap((metric): Comparison[] => {
        const [a, b] = [rowBefore.values[metric], row.values[metric]];
        if (!a || !b || METRICS[metric].better === 'neither') return [];
        const params = Object.entries(row.params).map(([param, value]) => `${param} ${value}`);
        return [{ scenario, row: [row.side, ...params].join(', '), metric, ...compareRounds(metric, a, b) }];
      });
    });
  });
}

function compareRounds(metric: MetricName, a: readonly number[], b: readonly number[]) {
  const ratio = bootstrapRatio(b, a);
  const p = mannWhitney(a, b);
  const [before, after] = [median(a), median(b)];
  const verdict = (): Comparison['verdict'] => {
    if (Math.min(a.length, b.length) < ROUNDS_MIN) return 'too few rounds';
    if (p > P_MAX || before === after) return 'no difference shown';
    return after > before === (METRICS[metric].better === 'more') ? 'better' : 'worse';
  };
  return { before, after, ratio, p, verdict: verdict() };
}

/** Returns the comparisons as a table, significant ones first. */
export function comparisonTable(comparisons: readonly Comparison[]): Table {
  const rank = ({ verdict }: Comparison): number => ['worse', 'better'].indexOf(verdict) + 1 || 3;
  return {
    headings: ['', 'metric', 'before', 'after', 'ratio', '95 %', 'p', 'verdict'],
    textColumns: 2,
    rows: comparisons
      .toSorted((x, y) => rank(x) - rank(y))
      .map(({ scenario, row, metric, before, after, ratio, p, verdict }) => [
        `${scenario}: ${row}`,
        `${METRICS[metric].label} ${METRICS[metric].unit}`.trim(),
        formatNumber(before, METRICS[metric].digits),
        formatNumber(after, METRICS[metric].digits),
        formatNumber(ratio.ratio, 3),
        `${formatNumber(ratio.low, 2)} to ${formatNumber(ratio.high, 2)}`,
        formatNumber(p, 3),
        verdict,
      ]),
  };
}
