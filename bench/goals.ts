import { median } from '#kit/quantile.ts';
import type { MetricName, Sample } from './measure/sample.ts';
import { findRow, formatNumber, type Row, rowsOf } from './report/table.ts';

/** A limit that the project sets itself, for a machine with two virtual processors. */
export interface Goal {
  readonly goal: string;
  readonly limit: string;
  readonly measured: string;
  /** `undefined` when the run has no measurement for it. */
  readonly isMet: boolean | undefined;
}

const CONNECTIONS = 256;
const FLATNESS_MAX = 1.1;
const FIRST = 'turnout';
const RETURNING = 'turnout, returning voters';
/** Above this share, other processes distort the result; in percent. */
const OTHERS_PERCENT_MAX = 10;

type Find = (scenario: string, side: string, params: Readonly<Record<string, number>>) => Row | undefined;

/** Compares the medians of a run with every goal; capture goals take the worse of first votes and returning voters. */
export function judgeGoals(samples: readonly Sample[]): Goal[] {
  const find: Find = (scenario, side, params) => findRow(samples, scenario, side, params);
  return [
    ...captureGoals(find),
    ...costGoals(find),
    ...flatnessGoals(samples),
    ...startGoals(find),
    lossGoal(find),
  ];
}

/** Returns a warning when processes outside the bench used much of the machine; else `undefined`. */
export function noiseWarning(samples: readonly Sample[]): string | undefined {
  const percent = median(samples.flatMap(({ metrics }) => metrics.othersPercent ?? []));
  if (!(percent > OTHERS_PERCENT_MAX)) return undefined;
  return `Other processes used ${formatNumber(percent, 0)} % of this machine (median): repeat the run on a quiet machine.`;
}

function captureGoals(find: Find): Goal[] {
  const at = { connections: CONNECTIONS };
  const [first, returning] = [find('capture', FIRST, at), find('capture', RETURNING, at)];
  const costOf = (side: string): number => medianOf(find('capture', side, at), 'usTotal');
  const cost = Math.max(medianOf(first, 'usTotal'), medianOf(returning, 'usTotal'));
  const rate = Math.min(medianOf(first, 'votesPerSecond'), medianOf(returning, 'votesPerSecond'));
  const emptyRate = medianOf(find('capture', 'empty', at), 'votesPerSecond');
  return [
    atMost('capture with Redis, CPU relative to the empty handler', cost / costOf('empty'), 1.25, '×'),
    atLeast('capture, throughput relative to the empty handler', rate / emptyRate, 0.8, '×'),
    atLeast('one job per vote, CPU relative to capture', costOf('job-per-vote') / cost, 3, '×'),
    atLeast('one insert per vote, CPU relative to capture', costOf('insert-per-vote') / cost, 5, '×'),
  ];
}

function costGoals(find: Find): Goal[] {
  const captured = (name: MetricName): number =>
    Math.max(
      ...[FIRST, RETURNING].map((side) =>
        medianOf(find('capture', side, { connections: CONNECTIONS }), name),
      ),
    );
  const drained = find('drain', FIRST, { workers: 1, nodes: 1 });
  const memory = find('memory', FIRST, { votesPerJob: 500 });
  return [
    atMost(
      'Redis, enqueue and dequeue',
      captured('usRedis') + medianOf(drained, 'usRedis'),
      1.5,
      'µs per vote',
    ),
    atMost('Redis, memory of a waiting vote', medianOf(memory, 'redisBytes'), 100, 'bytes'),
    atMost('worker', medianOf(drained, 'usWorker'), 2.5, 'µs per vote'),
    atMost('PostgreSQL', medianOf(drained, 'usPostgres'), 8, 'µs per vote'),
    atLeast('drain rate of one worker', medianOf(drained, 'votesPerSecond'), 130_000, 'votes/s'),
    atMost(
      'end to end, capture and drain',
      captured('usTotal') + medianOf(drained, 'usTotal'),
      45,
      'µs per vote',
    ),
  ];
}

/** The highest cost divided by the lowest, over rows that differ in one parameter. */
function flatnessGoals(samples: readonly Sample[]): Goal[] {
  const goal = (label: string, scenario: string, side: string, isRelevant = (_row: Row) => true): Goal => {
    const costs = rowsOf(samples, scenario)
      .filter((row) => row.side === side && isRelevant(row))
      .map((row) => medianOf(row, 'usTotal'));
    const ratio = costs.length < 2 ? Number.NaN : Math.max(...costs) / Math.min(...costs);
    return atMost(`${label}: highest cost relative to lowest`, ratio, FLATNESS_MAX, '×');
  };
  return [
    goal('capture, 1 to 8 nodes', 'scale', 'capture by nodes'),
    goal('drain, 1 to 8 nodes', 'drain', FIRST, ({ params }) => params['workers'] === 1),
    goal('capture, by backlog', 'scale', 'capture by backlog'),
    goal('drain, by backlog', 'scale', 'drain by backlog'),
  ];
}

function startGoals(find: Find): Goal[] {
  const vote = find('start', 'vote', {});
  return [
    atMost('vote handler, bundle size', medianOf(vote, 'bundleKilobytes'), 500, 'KB'),
    atMost('vote handler, exec to first 202', medianOf(vote, 'readyMs'), 100, 'ms'),
  ];
}

function lossGoal(find: Find): Goal {
  const spike = find('spike', FIRST, {});
  // A negative loss is a vote counted twice.
  const wrong = Math.abs(medianOf(spike, 'lost')) + medianOf(spike, 'tallyMismatches');
  return atMost('spike: votes lost, counted twice or tallied wrongly', wrong, 0, 'votes');
}

/** NaN when it was not measured. */
function medianOf(row: Row | undefined, name: MetricName): number {
  return row?.metrics[name]?.median ?? Number.NaN;
}

function atMost(goal: string, value: number, limit: number, unit: string): Goal {
  return judge(goal, value, `at most ${limit.toLocaleString('en')} ${unit}`, unit, value <= limit);
}

function atLeast(goal: string, value: number, limit: number, unit: string): Goal {
  return judge(goal, value, `at least ${limit.toLocaleString('en')} ${unit}`, unit, value >= limit);
}

function judge(goal: string, value: number, limit: string, unit: string, isMet: boolean): Goal {
  const isMeasured = !Number.isNaN(value);
  return {
    goal,
    limit,
    measured: isMeasured ? `${formatNumber(value, value < 1_000 ? 2 : 0)} ${unit}` : 'not measured',
    isMet: isMeasured ? isMet : undefined,
  };
}
