import { readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { StartError } from '#dev/errors.ts';
import { ROOT } from '#dev/root.ts';
import type { MetricName, Sample } from '../measure/sample.ts';
import { type Result, readResults } from '../report/result.ts';
import { findRow } from '../report/table.ts';
import type { Costs } from './plan.ts';

/** Committed, so that a fresh clone can plan. */
const COSTS_FILE = join(ROOT, 'bench/plan/costs.json');
const COMMAND = 'npm run bench -- plan --save-costs';

/** Costs with the run that measured them; `costs.json` has this shape. */
export interface MeasuredCosts {
  readonly commit: string;
  readonly startedAt: string;
  readonly machine: Result['machine'];
  /** The file that the costs come from, or the command that wrote the file. */
  readonly source: string;
  readonly costs: Costs;
}

/** Returns the costs of the newest complete result in `folder`, or the committed ones if they are newer. */
export function newestCosts(folder: string): MeasuredCosts {
  const committed = JSON.parse(readFileSync(COSTS_FILE, 'utf8')) as MeasuredCosts;
  const source = `${relative(ROOT, COSTS_FILE)}, written by ${committed.source}`;
  for (const { path, result } of readResults(folder)) {
    if (result.startedAt <= committed.startedAt) break;
    if (isComplete(result)) return costsOf(result, relative(ROOT, path));
  }
  return { ...committed, source };
}

/** Writes `costs.json` and returns its path. */
export function saveCosts(measured: MeasuredCosts): string {
  writeFileSync(COSTS_FILE, `${JSON.stringify({ ...measured, source: COMMAND }, undefined, 2)}\n`);
  return COSTS_FILE;
}

/**
 * Returns the costs that a result has measured.
 *
 * @param source the file of the result
 * @throws StartError when the result lacks a metric that a plan needs
 */
export function costsOf({ commit, startedAt, machine, samples }: Result, source: string): MeasuredCosts {
  return { commit, startedAt, machine, source, costs: costsFrom(samples) };
}

function isComplete({ samples }: Result): boolean {
  try {
    costsFrom(samples);
    return true;
  } catch (error) {
    if (error instanceof StartError) return false;
    throw error;
  }
}

/** Takes the costs at the highest number of connections measured, rounded to hundredths. */
function costsFrom(samples: readonly Sample[]): Costs {
  const connections = Math.max(
    ...samples
      .filter(({ scenario }) => scenario === 'capture')
      .map(({ params }) => params['connections'] ?? 0),
  );
  const find = (scenario: string, side: string, name: MetricName, params: Record<string, number>): number => {
    const value = findRow(samples, scenario, side, params)?.metrics[name]?.median;
    if (value === undefined)
      throw new StartError(`the result has no ${name} of "${side}" in ${scenario}: run that scenario first`);
    return value;
  };
  const captured = (side: string, name: MetricName) => find('capture', side, name, { connections });
  const drained = (name: MetricName) => find('drain', 'turnout', name, { workers: 1, nodes: 1 });
  const waiting = (name: MetricName) => find('memory', 'turnout', name, { votesPerJob: 50 });
  // Measured forms carry no token; a visitor of the page has one, which costs what it costs a returning voter.
  const token = captured('turnout, returning voters', 'usTotal') - captured('turnout', 'usTotal');
  const costs: Costs = {
    usFormVote: captured('turnout, browser form', 'usTotal') + Math.max(0, token),
    usPage: captured('turnout, page only', 'usHandler'),
    usRedis: captured('turnout, browser form', 'usRedis') + drained('usRedis'),
    usWorker: drained('usWorker'),
    usPostgres: drained('usPostgres'),
    redisBytes: waiting('redisBytes'),
    diskBytes: waiting('diskBytesPeak'),
  };
  const rounded = Object.entries(costs).map(([name, value]) => [name, Math.round(value * 100) / 100]);
  return Object.fromEntries(rounded) as Costs;
}
