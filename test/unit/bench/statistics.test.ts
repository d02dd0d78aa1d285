import { describe, expect, test } from 'vitest';
import { bootstrapRatio, mannWhitney, pairedRatio, summarize } from '#bench/measure/statistics.ts';
import { median, quantile } from '#kit/quantile.ts';

describe('a quantile', () => {
  test('is interpolated between its neighbours', () => {
    expect(quantile([1, 2, 3, 4], 0.5)).toBe(2.5);
    expect(quantile([1, 2, 3, 4, 5], 0.99)).toBeCloseTo(4.96);
    expect(quantile([7], 0.999)).toBe(7);
  });

  test('of no values is NaN', () => {
    expect(quantile([], 0.5)).toBeNaN();
    expect(median([])).toBeNaN();
  });

  test('does not depend on the order of the values', () => {
    expect(median([5, 1, 9])).toBe(5);
    expect(summarize([5, 1, 9, 1])).toEqual({ median: 3, min: 1, max: 9, count: 4 });
  });
});

describe('the Mann-Whitney test', () => {
  // Two-sided exact probabilities from published tables.
  test.each([
    [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10], 2 / 252],
    [[1, 2, 3, 4, 6], [5, 7, 8, 9, 10], 4 / 252],
    [[1, 2, 3], [4, 5, 6], 2 / 20],
    [[1, 3, 5], [2, 4, 6], 14 / 20],
  ])('of %j and %j has the exact p-value', (a, b, p) => {
    expect(mannWhitney(a, b)).toBeCloseTo(p, 10);
    expect(mannWhitney(b, a)).toBeCloseTo(p, 10);
  });

  test('has p = 1 for equal rounds', () => {
    expect(mannWhitney([3, 3, 3], [3, 3, 3])).toBe(1);
  });
});

describe('the paired ratio', () => {
  test('does not depend on a speed that drifts between the pairs', () => {
    const speeds = [10, 40, 20, 70, 30, 15, 55, 25];
    const { ratio, low, high } = pairedRatio(
      speeds.map((speed) => speed * 1.1),
      speeds,
    );
    for (const value of [ratio, low, high]) expect(value).toBeCloseTo(1.1);
  });

  test('is NaN without pairs', () => {
    expect(pairedRatio([], [1]).ratio).toBeNaN();
  });
});

describe('the interval of a ratio', () => {
  test('contains the ratio of the medians, and is narrow when the rounds agree', () => {
    const { ratio, low, high } = bootstrapRatio([20, 20.2, 19.8, 20.1, 19.9], [10, 10.1, 9.9, 10, 10]);
    expect(ratio).toBeCloseTo(2);
    expect(low).toBeGreaterThan(1.95);
    expect(high).toBeLessThan(2.05);
  });

  test('is wide when the rounds disagree', () => {
    const { low, high } = bootstrapRatio([10, 20, 30, 40, 50], [10, 20, 30, 40, 50]);
    expect(low).toBeLessThan(0.7);
    expect(high).toBeGreaterThan(1.4);
  });
});
