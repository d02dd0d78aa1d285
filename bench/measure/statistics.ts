import { median, quantile } from '#kit/quantile.ts';

/** Enough resamples that the ends of a 95 % interval settle to the second digit. */
const RESAMPLES = 2_000;

/** The middle of several measurements, and how far they lie apart. */
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
 * The two-sided Mann-Whitney U test, exact: how likely two sets of rounds are to lie at least this far apart in rank
 * when nothing but chance separates them. It assumes nothing about the shape of the noise. Ties count half.
 *
 * @returns a probability; with n and m values it cannot be less than 2 / C(n + m, n)
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

/** In how many orders of `n` and `m` values U comes out as 0, 1, 2, …: the coefficients of a Gaussian binomial. */
function waysByU(n: number, m: number): number[] {
  let ways = [1];
  for (let i = 1; i <= n; i++) {
    ways = divided(multiplied(ways, m + i), i);
  }
  return ways;
}

/** The polynomial times (1 - q^power). */
function multiplied(polynomial: readonly number[], power: number): number[] {
  const product = [...polynomial, ...Array.from({ length: power }, () => 0)];
  for (const [degree, factor] of polynomial.entries()) {
    product[degree + power] = (product[degree + power] ?? 0) - factor;
  }
  return product;
}

/** The polynomial divided by (1 - q^power), which must divide it. */
function divided(polynomial: readonly number[], power: number): number[] {
  const quotient: number[] = [];
  for (let degree = 0; degree < polynomial.length - power; degree++) {
    quotient.push((polynomial[degree] as number) + (quotient[degree - power] ?? 0));
  }
  return quotient;
}

/**
 * A 95 % interval for the ratio of the medians of two sets of rounds, by bootstrap.
 *
 * @param random from 0 to 1, for tests
 */
export function bootstrapRatio(
  numerators: readonly number[],
  denominators: readonly number[],
  random: () => number = Math.random,
): { readonly ratio: number; readonly low: number; readonly high: number } {
  const draw = (values: readonly number[]): number[] =>
    values.map(() => values[Math.floor(random() * values.length)] as number);
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
