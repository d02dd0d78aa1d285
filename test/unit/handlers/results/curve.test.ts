import { describe, expect, test } from 'vitest';
import { HISTORY_SECONDS, type HistoryPoint } from '#db/history.ts';
import { curveCard, curveOf } from '#handlers/results/curve.ts';

const STEP_MS = HISTORY_SECONDS * 1_000;

/** A history with so many votes in each interval. */
function history(...votes: readonly number[]): readonly HistoryPoint[] {
  let accepted = 1_000;
  return [0, ...votes].map((more, index) => {
    accepted += more;
    return { at: index * STEP_MS, accepted };
  });
}

describe('the curve', () => {
  test('begins with the first vote and has the pace of each interval', () => {
    expect(curveOf(history(0, 0, 10, 50, 0))).toEqual({
      from: 2 * STEP_MS,
      to: 5 * STEP_MS,
      rates: [1, 5, 0],
    });
  });

  test('is absent without votes', () => {
    for (const none of [history(), history(0), history(0, 0, 0)]) {
      expect(curveOf(none)).toBeUndefined();
      expect(curveCard(none)).toBe('');
    }
  });

  test('of a long evening has at most 120 steps and keeps its peak', () => {
    const rates = curveOf(
      history(...Array<number>(1_000).fill(10), 9_000, ...Array<number>(999).fill(0)),
    )?.rates;
    expect(rates?.length).toBeLessThanOrEqual(120);
    expect(Math.max(...(rates ?? []))).toBe(900);
    expect(rates?.[0]).toBe(1);
    expect(rates?.at(-1)).toBe(0);
  });

  test('spreads the votes of a time without points over that time', () => {
    const gap = [
      { at: 0, accepted: 0 },
      { at: 4 * STEP_MS, accepted: 80 },
    ];
    expect(curveOf(gap)?.rates).toEqual([2, 2, 2, 2]);
  });

  test('shows no vote where a restored backup has accepted less', () => {
    expect(curveOf(history(10, -500, 20))?.rates).toEqual([1, 0, 2]);
  });
});
