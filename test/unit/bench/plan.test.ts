import { describe, expect, test } from 'vitest';
import { costsFrom } from '#bench/plan/costs.ts';
import { arrivedBy, backlogOf, curveOf } from '#bench/plan/curve.ts';
import { FRONTEND_INSTANCES } from '#bench/plan/instances.ts';
import { type Costs, planFor } from '#bench/plan/plan.ts';
import { renderPlan } from '#bench/plan/render.ts';

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

  test('has come to 95 % when the time is over, and comes whole in the end', () => {
    expect(arrivedBy(curve, 600)).toBeCloseTo(950_000);
    expect(arrivedBy(curve, 1e6)).toBeCloseTo(1_000_000);
    expect(arrivedBy(curve, 0)).toBe(0);
  });

  test('is counted when as many were counted as came', () => {
    const { longest, emptyAfterSeconds } = backlogOf(curve, 1_000);
    expect(arrivedBy(curve, emptyAfterSeconds)).toBeCloseTo(1_000 * emptyAfterSeconds, 0);
    // No moment has more waiting than the longest queue.
    for (let second = 0; second < emptyAfterSeconds; second += 10) {
      expect(arrivedBy(curve, second) - 1_000 * second).toBeLessThanOrEqual(longest + 1e-6);
    }
  });

  test('never waits for those who count faster than it comes', () => {
    expect(backlogOf(curve, curve.peakPerSecond).longest).toBe(0);
  });
});

describe('a plan', () => {
  test('has enough frontends for the peak, and some to spare', () => {
    const { curve, frontends } = planFor(100_000_000, 600, COSTS, LARGEST);
    expect(frontends.voterMicros).toBe(80);
    expect(frontends.votersPerSecondEach).toBeCloseTo((16 * 0.6 * 1e6) / 80);
    expect(frontends.count).toBe(Math.ceil((curve.peakPerSecond / frontends.votersPerSecondEach) * 1.1));
  });

  test('is bound by the one processor of a Redis where that is less', () => {
    const { frontends } = planFor(100_000_000, 600, { ...COSTS, usRedis: 20 }, LARGEST);
    expect(frontends.votersPerSecondEach).toBeCloseTo((0.6 * 1e6) / 20);
    expect(frontends.redisShare).toBeLessThanOrEqual(0.6);
  });

  test('has as many lanes of workers as the database has processors to spare', () => {
    const { workers, postgres } = planFor(100_000_000, 600, COSTS);
    expect(workers.count).toBe(Math.ceil((postgres.instance.vcpus * 0.6) / 2));
  });

  test('has enough memory for the longest queue', () => {
    const small = FRONTEND_INSTANCES[0];
    const { frontends, backlog } = planFor(
      1_000_000_000,
      600,
      { ...COSTS, usFormVote: 0.1, usPage: 0 },
      small,
    );
    expect(frontends.redisGigabytesEach * frontends.count).toBeCloseTo((backlog.longest * 90) / 1e9);
    expect(frontends.redisGigabytesEach).toBeLessThan(4 * 0.4);
  });

  test('takes the smallest database that keeps up with a small crowd, and two frontends and workers at least', () => {
    const { postgres, frontends, workers, backlog } = planFor(10_000, 600, COSTS);
    expect([postgres.instance.name, frontends.instance.name]).toEqual(['m7g.large', 'c7g.large']);
    expect([frontends.count, workers.count, backlog.longest]).toEqual([2, 2, 0]);
  });

  test('takes larger frontends rather than very many', () => {
    const { frontends } = planFor(100_000_000, 600, COSTS);
    expect(frontends.count).toBeLessThanOrEqual(20);
    const smaller = FRONTEND_INSTANCES[FRONTEND_INSTANCES.indexOf(frontends.instance) - 1];
    expect(planFor(100_000_000, 600, COSTS, smaller).frontends.count).toBeGreaterThan(20);
    expect(planFor(10_000_000_000, 600, COSTS).frontends.instance).toBe(LARGEST);
  });

  test('is written with its formulas', () => {
    const text = renderPlan(planFor(100_000_000, 600, COSTS), COSTS, 'commit abc');
    expect(text).toContain('100,000,000 voters, 95 % of them within 10.0 minutes');
    expect(text).toContain('40.0 + 2 · 20.0 = 80.0 µs');
    expect(text).toContain('WEB_CONCURRENCY=4 VOTE_CPUS=4');
    expect(text).toContain('commit abc');
    expect(text).not.toMatch(/NaN|undefined|Infinity/);
  });
});

test('costs that were not measured are named', () => {
  expect(() => costsFrom([])).toThrow(/no usTotal of "turnout, browser form" in capture/);
});
