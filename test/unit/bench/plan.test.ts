import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import type { MetricName, Sample } from '#bench/measure/sample.ts';
import { costsOf, newestCosts } from '#bench/plan/costs.ts';
import { arrivedBy, backlogOf, curveOf } from '#bench/plan/curve.ts';
import { FRONTEND_INSTANCES } from '#bench/plan/instances.ts';
import { type Costs, planFor } from '#bench/plan/plan.ts';
import { renderPlan } from '#bench/plan/render.ts';
import { writeResult } from '#bench/report/result.ts';
import { ROOT } from '#dev/root.ts';
import { resultOf } from './result.ts';

const COSTS: Costs = {
  usFormVote: 40,
  usPage: 20,
  usRedis: 2,
  usWorker: 2.5,
  usPostgres: 8,
  redisBytes: 90,
  diskBytes: 95,
};

const LARGEST = FRONTEND_INSTANCES.at(-1);

describe('a crowd', () => {
  const curve = curveOf(1_000_000, 600);

  test('has arrived to 95 % within its time, and to 100 % in the end', () => {
    expect(arrivedBy(curve, 600)).toBeCloseTo(950_000);
    expect(arrivedBy(curve, 1e6)).toBeCloseTo(1_000_000);
    expect(arrivedBy(curve, 0)).toBe(0);
  });

  test('leaves an empty backlog once the drain has caught up with the arrivals', () => {
    const { votesMax, emptyAfterSeconds } = backlogOf(curve, 1_000);
    expect(arrivedBy(curve, emptyAfterSeconds)).toBeCloseTo(1_000 * emptyAfterSeconds, 0);
    // The backlog never exceeds its maximum.
    for (let second = 0; second < emptyAfterSeconds; second += 10) {
      expect(arrivedBy(curve, second) - 1_000 * second).toBeLessThanOrEqual(votesMax + 1e-6);
    }
  });

  test('causes no backlog when the drain rate is at least its peak', () => {
    expect(backlogOf(curve, curve.peakPerSecond).votesMax).toBe(0);
  });
});

describe('a plan', () => {
  test('has enough frontends for the peak, plus spare ones', () => {
    const { curve, frontends } = planFor(100_000_000, 600, COSTS, LARGEST);
    expect(frontends.usVoter).toBe(80);
    expect(frontends.votersPerSecondEach).toBeCloseTo((16 * 0.6 * 1e6) / 80);
    expect(frontends.count).toBe(Math.ceil((curve.peakPerSecond / frontends.votersPerSecondEach) * 1.1));
  });

  test('is limited by the one processor of a Redis where that is the bottleneck', () => {
    const { frontends } = planFor(100_000_000, 600, { ...COSTS, usRedis: 20 }, LARGEST);
    expect(frontends.votersPerSecondEach).toBeCloseTo((0.6 * 1e6) / 20);
    expect(frontends.redisShare).toBeLessThanOrEqual(0.6);
  });

  test('has enough workers to keep the vCPUs of the database busy', () => {
    const { workers, postgres } = planFor(100_000_000, 600, COSTS);
    expect(workers.count).toBe(Math.ceil((postgres.instance.vcpus * 0.6) / 2));
  });

  test('has enough memory for the maximum backlog', () => {
    const small = FRONTEND_INSTANCES[0];
    const costs = { ...COSTS, usFormVote: 0.1, usPage: 0 };
    const { frontends, backlog } = planFor(1_000_000_000, 600, costs, small);
    expect(frontends.redisGigabytesEach * frontends.count).toBeCloseTo((backlog.votesMax * 90) / 1e9);
    expect(frontends.redisGigabytesEach).toBeLessThan(4 * 0.4);
  });

  test('of a small crowd has the smallest database, two frontends and two workers', () => {
    const { postgres, frontends, workers, backlog } = planFor(10_000, 600, COSTS);
    expect([postgres.instance.name, frontends.instance.name]).toEqual(['m7g.large', 'c7g.large']);
    expect([frontends.count, workers.count, backlog.votesMax]).toEqual([2, 2, 0]);
  });

  test('chooses larger frontends instead of more than twenty', () => {
    const { frontends } = planFor(100_000_000, 600, COSTS);
    expect(frontends.count).toBeLessThanOrEqual(20);
    const smaller = FRONTEND_INSTANCES[FRONTEND_INSTANCES.indexOf(frontends.instance) - 1];
    expect(planFor(100_000_000, 600, COSTS, smaller).frontends.count).toBeGreaterThan(20);
    expect(planFor(10_000_000_000, 600, COSTS).frontends.instance).toBe(LARGEST);
  });

  test('is rendered with its formulas and the origin of its costs', () => {
    const { commit, startedAt, machine } = resultOf([]);
    const measured = { commit, startedAt, machine, source: 'x.json', costs: COSTS };
    const text = renderPlan(planFor(100_000_000, 600, COSTS), measured);
    expect(text).toContain('100,000,000 voters, 95 % of them within 10.0 minutes');
    expect(text).toContain('40.0 + 2 · 20.0 = 80.0 µs');
    expect(text).toContain('WEB_CONCURRENCY=4 VOTE_CPUS=4');
    expect(text).toContain('Costs: x.json\n       commit abc1234567, 2026-11-23, 2 × <AMD>');
    expect(text).not.toMatch(/NaN|undefined|Infinity/);
  });
});

/** A sample of each scenario with every metric that a plan needs, all with the same value. */
function completeSamples(value: number): Sample[] {
  const sample = (
    scenario: string,
    side: string,
    params: Record<string, number>,
    ...names: MetricName[]
  ): Sample => ({
    scenario,
    side,
    round: 1,
    params,
    metrics: Object.fromEntries(names.map((name) => [name, value])),
  });
  return [
    ...['turnout', 'turnout, returning voters', 'turnout, browser form', 'turnout, page only'].map((side) =>
      sample('capture', side, { connections: 256 }, 'usTotal', 'usHandler', 'usRedis'),
    ),
    sample('drain', 'turnout', { workers: 1, nodes: 1 }, 'usRedis', 'usWorker', 'usPostgres'),
    sample('memory', 'turnout', { votesPerJob: 50 }, 'redisBytes', 'diskBytesPeak'),
  ];
}

describe('the costs of a plan', () => {
  const folders: string[] = [];
  afterAll(() => {
    for (const folder of folders) rmSync(folder, { recursive: true });
  });

  /** Creates a folder with one result for each of the start times. */
  function resultsAt(samples: readonly Sample[], ...times: string[]): string {
    const folder = mkdtempSync(join(tmpdir(), 'turnout-test-'));
    folders.push(folder);
    for (const startedAt of times) writeResult({ ...resultOf(samples), startedAt }, '', folder);
    return folder;
  }

  test('are the committed ones when there is no result', () => {
    const measured = newestCosts(resultsAt([]));
    expect(measured).toMatchObject({
      commit: expect.stringMatching(/^[0-9a-f]{10}$/),
      source: 'bench/plan/costs.json, written by npm run bench -- plan --save-costs',
    });
    const text = renderPlan(planFor(100_000_000, 600, measured.costs), measured);
    expect(text).toContain(`commit ${measured.commit}`);
    expect(text).toContain(`${measured.machine.processors} × ${measured.machine.cpu}`);
    expect(text).not.toMatch(/NaN|undefined|Infinity/);
    expect(newestCosts('/no/such/folder')).toEqual(measured);
  });

  test('are those of the newest complete result that is newer than the committed ones', () => {
    const folder = resultsAt(completeSamples(7), '2999-01-01T00:00:00.000Z', '2998-01-01T00:00:00.000Z');
    const incomplete = { ...resultOf([]), startedAt: '2999-02-01T00:00:00.000Z' };
    writeResult(incomplete, '', folder);
    const { source, costs } = newestCosts(folder);
    expect(source).toBe(relative(ROOT, join(folder, '2999-01-01-00-00-abc1234567.json')));
    expect(costs).toMatchObject({ usFormVote: 7, usRedis: 14, diskBytes: 7 });
  });

  test('are the committed ones when every result is older', () => {
    const folder = resultsAt(completeSamples(7), '2001-01-01T00:00:00.000Z');
    expect(newestCosts(folder).source).toMatch(/^bench\/plan\/costs\.json/);
  });

  test('that a result lacks are named', () => {
    expect(() => costsOf(resultOf([]), 'x.json')).toThrow(
      /no usTotal of "turnout, returning voters" in capture/,
    );
  });
});
