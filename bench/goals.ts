import { median } from '#kit/quantile.ts';
import type { MetricName, Sample } from './measure/sample.ts';
import { pairedRatio, type Ratio } from './measure/statistics.ts';
import { findRow, formatNumber, type Row, rowsOf } from './report/table.ts';
import { HIGH_RATE, LOW_RATE, MANY_FRONTENDS, MANY_RATE, SHARED_RATE } from './scenarios/steady.ts';

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
    ...selfGoals(find),
    ...steadyGoals(find),
    ...captureGoals(find),
    ...proxyGoals(find),
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

/** The instrument itself: what is equal reads as equal, and a small difference is found. */
function selfGoals(find: Find): Goal[] {
  const of = (side: string): Ratio => pairs(find('self', side, {}), find('self', 'empty', {}), 'usTotal');
  const [same, busy] = [of('empty again'), of('empty and busy')];
  const error = Math.max(same.high - 1, 1 - same.low);
  return [
    within('the same handler against itself, error of the ratio', error, 0.03, same),
    goalOf('5 % more work is found: lowest likely ratio', busy.low, 'above 1 ×', busy.low > 1, busy),
  ];
}

/** All processes together, while votes are captured and counted. */
function steadyGoals(find: Find): Goal[] {
  const at = (perSecond: number, frontends = 1): Row | undefined =>
    find('steady', FIRST, { perSecond, frontends });
  const empty = (perSecond: number): Row | undefined => find('steady', 'empty', { perSecond });
  const full = at(HIGH_RATE);
  const shared = at(SHARED_RATE);
  const cost = (name: MetricName): number => medianOf(full, name);
  const idle = at(0);
  return [
    ratioAtMost('live at 8,000 votes/s, relative to the empty handler', full, empty(HIGH_RATE), 1.6),
    ratioAtMost('live at 500 votes/s, relative to the empty handler', at(LOW_RATE), empty(LOW_RATE), 3),
    ratioAtMost(
      'live, 8 frontends of 100 votes/s, relative to the empty handler',
      at(MANY_RATE, MANY_FRONTENDS),
      empty(MANY_RATE),
      4,
    ),
    ratioAtLeast(
      'one job per vote at 2,000 votes/s, live, relative to Turnout',
      find('steady', 'job-per-vote', {}),
      shared,
      3.5,
    ),
    ratioAtLeast(
      'one insert per vote at 2,000 votes/s, live, relative to Turnout',
      find('steady', 'insert-per-vote', {}),
      shared,
      6,
    ),
    atMost('Redis, live', cost('usRedis'), 3, 'µs per vote'),
    atMost('worker, live', cost('usWorker'), 4, 'µs per vote'),
    atMost('PostgreSQL, live', cost('usPostgres'), 9, 'µs per vote'),
    atMost('from 202 to counted, median', cost('lagMs'), 1_000, 'ms'),
    atMost('idle system', medianOf(idle, 'corePercent'), 1, '% of a core'),
  ];
}

/** Capture goals take the worse of first votes and returning voters. */
function captureGoals(find: Find): Goal[] {
  const at = { connections: CONNECTIONS };
  const empty = find('capture', 'empty', at);
  const worst = (name: MetricName, isWorse: (ratio: number, than: number) => boolean): Ratio =>
    [FIRST, RETURNING]
      .map((side) => pairs(find('capture', side, at), empty, name))
      .reduce((worse, ratio) => (isWorse(ratio.ratio, worse.ratio) ? ratio : worse));
  const cost = worst('usTotal', (ratio, than) => ratio > than);
  const handler = worst('usHandler', (ratio, than) => ratio > than);
  const rate = worst('votesPerSecond', (ratio, than) => ratio < than);
  return [
    within('capture with Redis, CPU relative to the empty handler', cost.ratio, 1.15, cost),
    within('capture without Redis, CPU relative to the empty handler', handler.ratio, 1.05, handler),
    goalOf(
      'capture, throughput relative to the empty handler',
      rate.ratio,
      'at least 0.9 ×',
      rate.ratio >= 0.9,
      rate,
    ),
  ];
}

function proxyGoals(find: Find): Goal[] {
  const page = find('proxy', 'proxy, page views', {});
  return [
    atMost('page view at the proxy', medianOf(page, 'usProxy'), 20, 'µs of the proxy'),
    // Health checks, and a miss every few seconds.
    atMost('page view at the proxy', medianOf(page, 'usHandler'), 0.5, 'µs of a handler'),
  ];
}

function costGoals(find: Find): Goal[] {
  const drained = find('drain', FIRST, { workers: 1, nodes: 1 });
  const memory = find('memory', FIRST, { votesPerJob: 500 });
  return [
    atMost('Redis, memory of a waiting vote', medianOf(memory, 'redisBytes'), 100, 'bytes'),
    atMost('PostgreSQL, from a backlog', medianOf(drained, 'usPostgres'), 8, 'µs per vote'),
    atLeast('drain rate of one worker', medianOf(drained, 'votesPerSecond'), 130_000, 'votes/s'),
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
    atMost('vote handler, bundle size', medianOf(vote, 'bundleKilobytes'), 480, 'KB'),
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

function ratioAtMost(goal: string, row: Row | undefined, base: Row | undefined, limit: number): Goal {
  const ratio = pairs(row, base, 'usTotal');
  return within(goal, ratio.ratio, limit, ratio);
}

function ratioAtLeast(goal: string, row: Row | undefined, base: Row | undefined, limit: number): Goal {
  const ratio = pairs(row, base, 'usTotal');
  return goalOf(goal, ratio.ratio, `at least ${limit} ×`, ratio.ratio >= limit, ratio);
}

function within(goal: string, value: number, limit: number, interval: Ratio): Goal {
  return goalOf(goal, value, `at most ${limit} ×`, value <= limit, interval);
}

/** A goal on a ratio, with its 95 % interval. */
function goalOf(goal: string, value: number, limit: string, isMet: boolean, { low, high }: Ratio): Goal {
  const unit = `× (${formatNumber(low, 2)} to ${formatNumber(high, 2)})`;
  return judge(goal, value, limit, unit, isMet);
}

/** The paired ratio of two rows; NaN when one was not measured. */
function pairs(row: Row | undefined, base: Row | undefined, name: MetricName): Ratio {
  return pairedRatio(row?.values[name] ?? [], base?.values[name] ?? []);
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
