import { median } from '#kit/quantile.ts';
import type { MetricName, Sample } from './measure/sample.ts';
import { findRow, formatNumber, type Row, rowsOf } from './report/table.ts';

/** Something that the project wants to be true on two shared processors. */
export interface Goal {
  readonly goal: string;
  readonly limit: string;
  readonly measured: string;
  /** `undefined` when its scenario was not run. */
  readonly holds: boolean | undefined;
}

const CONNECTIONS = 256;
const FLATNESS_MAX = 1.1;
const MINE = 'turnout';
const RETURNING = 'turnout, returning voters';

/** Above this share others shaped the result; in percent. */
const NOISE_PERCENT_MAX = 10;

type Find = (scenario: string, side: string, params: Readonly<Record<string, number>>) => Row | undefined;

/** Compares what was measured with every goal. Medians; for first and returning voters the worse of the two. */
export function judgeGoals(samples: readonly Sample[]): Goal[] {
  const find: Find = (scenario, side, params) => findRow(samples, scenario, side, params);
  return [
    ...captureGoals(find),
    ...wayGoals(find),
    ...flatnessGoals(samples),
    ...startGoals(find),
    lossGoal(find),
  ];
}

/** A warning when processes that have nothing to do with the bench used much of the machine; else `undefined`. */
export function noiseOf(samples: readonly Sample[]): string | undefined {
  const percent = median(samples.flatMap(({ metrics }) => metrics.othersPercent ?? []));
  if (!(percent > NOISE_PERCENT_MAX)) return undefined;
  return `Others took ${formatNumber(percent, 0)} % of this machine meanwhile (median): repeat it when it is quiet.`;
}

function captureGoals(find: Find): Goal[] {
  const at = { connections: CONNECTIONS };
  const [mine, returning] = [find('capture', MINE, at), find('capture', RETURNING, at)];
  const costOf = (side: string): number => medianOf(find('capture', side, at), 'usTotal');
  const worst = Math.max(medianOf(mine, 'usTotal'), medianOf(returning, 'usTotal'));
  const slowest = Math.min(medianOf(mine, 'votesPerSecond'), medianOf(returning, 'votesPerSecond'));
  return [
    atMost('capture, Redis included, by the CPU of the empty handler', worst / costOf('empty'), 1.25, '×'),
    atLeast(
      'capture, by the throughput of the empty handler',
      slowest / medianOf(find('capture', 'empty', at), 'votesPerSecond'),
      0.8,
      '×',
    ),
    atLeast('one job a vote costs more, by', costOf('job-per-vote') / worst, 3, '×'),
    atLeast('one insert a vote costs more, by', costOf('insert-per-vote') / worst, 5, '×'),
  ];
}

function wayGoals(find: Find): Goal[] {
  const captured = (name: MetricName): number =>
    Math.max(
      ...[MINE, RETURNING].map((side) => medianOf(find('capture', side, { connections: CONNECTIONS }), name)),
    );
  const drained = find('drain', MINE, { workers: 1, nodes: 1 });
  const memory = find('memory', MINE, { votesPerJob: 500 });
  return [
    atMost('Redis, in and out', captured('usRedis') + medianOf(drained, 'usRedis'), 1.5, 'µs a vote'),
    atMost('Redis, a waiting vote', medianOf(memory, 'redisBytes'), 100, 'bytes'),
    atMost('worker', medianOf(drained, 'usWorker'), 2.5, 'µs a vote'),
    atMost('Postgres', medianOf(drained, 'usPostgres'), 8, 'µs a vote'),
    atLeast('one worker drains', medianOf(drained, 'votesPerSecond'), 130_000, 'votes/s'),
    atMost('the whole way', captured('usTotal') + medianOf(drained, 'usTotal'), 45, 'µs a vote'),
  ];
}

/** The dearest by the cheapest of the sides that differ in one parameter only. */
function flatnessGoals(samples: readonly Sample[]): Goal[] {
  const ratioOf = (scenario: string, side: string, isMeant: (row: Row) => boolean = () => true): number => {
    const costs = rowsOf(samples, scenario)
      .filter((row) => row.side === side && isMeant(row))
      .map((row) => medianOf(row, 'usTotal'));
    return costs.length < 2 ? Number.NaN : Math.max(...costs) / Math.min(...costs);
  };
  const byNodes = (row: Row): boolean => row.params['workers'] === 1;
  return [
    atMost(
      'capture, dearest by cheapest, 1 to 8 nodes',
      ratioOf('scale', 'capture by nodes'),
      FLATNESS_MAX,
      '×',
    ),
    atMost('drain, dearest by cheapest, 1 to 8 nodes', ratioOf('drain', MINE, byNodes), FLATNESS_MAX, '×'),
    atMost('capture, dearest by cheapest backlog', ratioOf('scale', 'capture by backlog'), FLATNESS_MAX, '×'),
    atMost('drain, dearest by cheapest backlog', ratioOf('scale', 'drain by backlog'), FLATNESS_MAX, '×'),
  ];
}

function startGoals(find: Find): Goal[] {
  const vote = find('start', 'vote', {});
  return [
    atMost('vote bundle', medianOf(vote, 'bundleKilobytes'), 500, 'KB'),
    atMost('vote, from exec to its first 202', medianOf(vote, 'readyMs'), 100, 'ms'),
  ];
}

function lossGoal(find: Find): Goal {
  const spike = find('spike', MINE, {});
  // Counted twice is a loss below zero.
  const wrong = Math.abs(medianOf(spike, 'lost')) + medianOf(spike, 'tallyMismatches');
  return atMost('votes lost, counted twice or added up wrongly in the spike', wrong, 0, 'votes');
}

/** NaN when it was not measured. */
function medianOf(row: Row | undefined, name: MetricName): number {
  return row?.metrics[name]?.median ?? Number.NaN;
}

function atMost(goal: string, value: number, limit: number, unit: string): Goal {
  return judged(goal, value, limit, unit, 'at most', value <= limit);
}

function atLeast(goal: string, value: number, limit: number, unit: string): Goal {
  return judged(goal, value, limit, unit, 'at least', value >= limit);
}

function judged(
  goal: string,
  value: number,
  limit: number,
  unit: string,
  bound: string,
  holds: boolean,
): Goal {
  const isKnown = !Number.isNaN(value);
  return {
    goal,
    limit: `${bound} ${limit.toLocaleString('en')} ${unit}`,
    measured: isKnown ? `${formatNumber(value, value < 1_000 ? 2 : 0)} ${unit}` : 'not measured',
    holds: isKnown ? holds : undefined,
  };
}
