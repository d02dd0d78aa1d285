import { median, quantile } from '#kit/quantile.ts';

/** The bounds of a 95 % interval are then stable to the second digit. */
const RESAMPLES = 2_000;

/** Median and range of several measurements. */
export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly count: number;
}

export function summarize(values: readonly number[]): Summary {
  return {
    median: median(values),
    min: Math.min(...values),
    max: Math.max(...values),
    count: values.length,
  };
}

/**
 * Returns the p-value of the exact two-sided Mann-Whitney U test, at least 2 / C(n + m, n) for n and m values. The test
 * assumes no distribution. Ties count half.
 */
export function mannWhitney(a: readonly number[], b: readonly number[]): number {
  const pairs = a.length * b.length;
  if (pairs === 0) return 1;
  let u = 0;
  for (const x of a) for (const y of b) u += x > y ? 1 : x === y ? 0.5 : 0;
  const extreme = Math.min(u, pairs - u);
  const ways = waysByU(a.length, b.length);
  const all = ways.reduce((total, count) => total + count, 0);
  const asExtreme = ways.slice(0, Math.floor(extreme) + 1).reduce((total, count) => total + count, 0);
  return Math.min(1, (2 * asExtreme) / all);
}

/** Returns how many orders of `n` and `m` values have U = 0, 1, 2, …: the coefficients of a Gaussian binomial. */
function waysByU(n: number, m: number): number[] {
  let ways = [1];
  for (let i = 1; i <= n; i++) {
    ways = divided(multiplied(ways, m + i), i);
  }
  return ways;
}

/** Returns the polynomial times (1 - q^power). */
function multiplied(polynomial: readonly number[], power: number): number[] {
  const product = [...polynomial, ...Array.from({ length: power }, () => 0)];
  for (const [degree, factor] of polynomial.entries()) {
    product[degree + power] = (product[degree + power] ?? 0) - factor;
  }
  return product;
}

/** Returns the polynomial divided by (1 - q^power), without remainder. */
function divided(polynomial: readonly number[], power: number): number[] {
  const quotient: number[] = [];
  for (let degree = 0; degree < polynomial.length - power; degree++) {
    quotient.push((polynomial[degree] as number) + (quotient[degree - power] ?? 0));
  }
  return quotient;
}

/** A ratio and its 95 % interval. */
export interface Ratio {
  readonly ratio: number;
  readonly low: number;
  readonly high: number;
}

/**
 * Returns the median of the ratios of two sides measured in turns, pair by pair: both halves of a pair ran within seconds of
 * each other, so that a machine whose speed drifts changes both. The interval is a bootstrap of the pairs.
 */
export function pairedRatio(numerators: readonly number[], denominators: readonly number[]): Ratio {
  const ratios = numerators
    .slice(0, denominators.length)
    .map((numerator, index) => numerator / (denominators[index] as number));
  const medians = Array.from({ length: RESAMPLES }, () => median(draw(ratios))).toSorted((a, b) => a - b);
  return { ratio: median(ratios), low: quantile(medians, 0.025), high: quantile(medians, 0.975) };
}

/** Returns the ratio of the medians of two sets of rounds and its 95 % interval, by bootstrap. */
export function bootstrapRatio(numerators: readonly number[], denominators: readonly number[]): Ratio {
  const ratios = Array.from(
    { length: RESAMPLES },
    () => median(draw(numerators)) / median(draw(denominators)),
  );
  const sorted = ratios.toSorted((a, b) => a - b);
  return {
    ratio: median(numerators) / median(denominators),
    low: quantile(sorted, 0.025),
    high: quantile(sorted, 0.975),
  };
}

/** Draws as many values as there are, with replacement. */
function draw(values: readonly number[]): number[] {
  return values.map(() => values[Math.floor(Math.random() * values.length)] as number);
}
