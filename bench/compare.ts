import { median } from '#kit/quantile.ts';
import { METRIC_NAMES, METRICS, type MetricName, type Sample } from './measure/sample.ts';
import { bootstrapRatio, mannWhitney } from './measure/statistics.ts';
import { formatNumber, rowsOf, scenariosOf, type TextTable } from './report/table.ts';

/** A difference this unlikely to be chance is called real. Five rounds a side can just tell so: 2 in 252. */
const P_MAX = 0.01;
/** Fewer rounds cannot tell chance from change, however far they lie apart. */
const ROUNDS_MIN = 5;

/** One metric of one row, before and after. */
export interface Comparison {
  readonly scenario: string;
  readonly row: string;
  readonly metric: MetricName;
  readonly before: number;
  readonly after: number;
  /** After by before, of the medians, and the ends of its 95 % interval. */
  readonly ratio: { readonly ratio: number; readonly low: number; readonly high: number };
  readonly p: number;
  readonly verdict: 'better' | 'worse' | 'no difference shown' | 'too few rounds';
}

/**
 * Compares all that two runs have in common, round by round: exact Mann-Whitney for whether, bootstrap for how much.
 */
export function compareResults(before: readonly Sample[], after: readonly Sample[]): Comparison[] {
  return scenariosOf(after).flatMap((scenario) => {
    const olds = rowsOf(before, scenario);
    return rowsOf(after, scenario).flatMap((row) => {
      const key = JSON.stringify([row.side, row.params]);
      const old = olds.find(({ side, params }) => JSON.stringify([side, params]) === key);
      if (!old) return [];
      return METRIC_NAMES.flatMap((metric): Comparison[] => {
        const [a, b] = [old.values[metric], row.values[metric]];
        if (!a || !b || METRICS[metric].better === 'neither') return [];
        const name = [
          row.side,
          ...Object.entries(row.params).map(([param, value]) => `${param} ${value}`),
        ].join(', ');
        return [{ scenario, row: name, metric, ...compareRounds(metric, a, b) }];
      });
    });
  });
}

function compareRounds(metric: MetricName, a: readonly number[], b: readonly number[]) {
  const ratio = bootstrapRatio(b, a);
  const p = mannWhitney(a, b);
  const [before, after] = [median(a), median(b)];
  return { before, after, ratio, p, verdict: verdictOf(metric, a, b, before, after, p) };
}

function verdictOf(
  metric: MetricName,
  a: readonly number[],
  b: readonly number[],
  before: number,
  after: number,
  p: number,
): Comparison['verdict'] {
  if (Math.min(a.length, b.length) < ROUNDS_MIN) return 'too few rounds';
  if (p > P_MAX || before === after) return 'no difference shown';
  return after > before === (METRICS[metric].better === 'more') ? 'better' : 'worse';
}

/** The comparisons as a table, real changes first. */
export function comparisonTable(comparisons: readonly Comparison[]): TextTable {
  const rank = ({ verdict }: Comparison): number => ['worse', 'better'].indexOf(verdict) + 1 || 3;
  return {
    headings: ['', 'metric', 'before', 'after', 'ratio', '95 %', 'p', 'verdict'],
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
