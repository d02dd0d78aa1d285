import { describe, expect, test } from 'vitest';
import { compareResults, comparisonTable } from '#bench/compare.ts';
import { judgeGoals, noiseOf } from '#bench/goals.ts';
import type { Sample } from '#bench/measure/sample.ts';
import { renderPage } from '#bench/report/page.ts';
import type { Result } from '#bench/report/result.ts';
import { renderText, rowsOf, textTable } from '#bench/report/table.ts';
import { interleave } from '#bench/scenarios/scenario.ts';

const at256 = { connections: 256 };

function samplesOf(
  side: string,
  values: readonly number[],
  metric: keyof Sample['metrics'] = 'usTotal',
): Sample[] {
  return values.map((value, index) => ({
    scenario: 'capture',
    side,
    round: index + 1,
    params: at256,
    metrics: { [metric]: value },
  }));
}

function resultOf(samples: readonly Sample[]): Result {
  return {
    startedAt: '2026-11-23T00:00:00.000Z',
    seconds: 60,
    commit: 'abc1234567',
    isDirty: true,
    arguments: [],
    machine: { cpu: '<AMD>', processors: 2, memoryGigabytes: 24, kernel: '6', architecture: 'x64' },
    versions: { node: '26' },
    samples,
  };
}

test('every side has its turn once a round, in the order reversed every round', () => {
  expect(interleave(['a', 'b'], 3).map(({ round, side }) => `${round}${side}`)).toEqual([
    '1a',
    '1b',
    '2b',
    '2a',
    '3a',
    '3b',
  ]);
});

describe('a table', () => {
  test('has the median of the rounds, and how far they lie apart', () => {
    const text = renderText(textTable(rowsOf(samplesOf('turnout', [40, 42, 50]), 'capture')));
    expect(text).toBe(['         connections     total µs', 'turnout          256  42.00 ±5.00'].join('\n'));
  });
});

describe('a comparison', () => {
  const before = samplesOf('turnout', [40, 41, 42, 43, 44]);

  test('calls a change real when no round of one side lies among those of the other', () => {
    const [found] = compareResults(before, samplesOf('turnout', [30, 31, 32, 33, 34]));
    expect(found).toMatchObject({ metric: 'usTotal', before: 42, after: 32, verdict: 'better' });
    expect(compareResults(samplesOf('turnout', [30, 31, 32, 33, 34]), before)[0]?.verdict).toBe('worse');
  });

  test('knows for which measures more is better', () => {
    const rates = (values: number[]): Sample[] => samplesOf('turnout', values, 'votesPerSecond');
    const [found] = compareResults(rates([1, 2, 3, 4, 5]), rates([6, 7, 8, 9, 10]));
    expect(found?.verdict).toBe('better');
  });

  test('shows none where the rounds mix, and says when there are too few of them', () => {
    expect(compareResults(before, samplesOf('turnout', [39, 41.5, 42.5, 43.5, 45]))[0]?.verdict).toBe(
      'no difference shown',
    );
    expect(compareResults(before.slice(0, 3), samplesOf('turnout', [1, 2, 3]))[0]?.verdict).toBe(
      'too few rounds',
    );
  });

  test('compares only what both have', () => {
    expect(compareResults(before, samplesOf('another', [1]))).toEqual([]);
  });

  test('takes what was measured several times in a round for one round', () => {
    const often = (from: number): Sample[] =>
      [1, 2].flatMap((round) =>
        Array.from({ length: 25 }, (_, index) => ({
          ...(samplesOf('turnout', [from + index / 100])[0] as Sample),
          round,
        })),
      );
    expect(compareResults(often(40), often(80)).map(({ verdict }) => verdict)).toEqual(['too few rounds']);
  });

  test('is a table with what is real first', () => {
    const other = samplesOf('empty', [1, 2, 3, 4, 5]);
    const { rows } = comparisonTable(
      compareResults([...other, ...before], [...other, ...samplesOf('turnout', [1, 2, 3, 4, 5])]),
    );
    expect(rows.map((row) => row.at(-1))).toEqual(['better', 'no difference shown']);
  });
});

describe('the goals', () => {
  const holds = (samples: readonly Sample[], part: string): boolean | undefined =>
    judgeGoals(samples).find(({ goal }) => goal.includes(part))?.holds;

  test('take the worse of first and returning voters', () => {
    const empty = samplesOf('empty', [20]);
    const first = samplesOf('turnout', [24]);
    expect(
      holds([...empty, ...first, ...samplesOf('turnout, returning voters', [25])], 'CPU of the empty'),
    ).toBe(true);
    expect(
      holds([...empty, ...first, ...samplesOf('turnout, returning voters', [26])], 'CPU of the empty'),
    ).toBe(false);
  });

  test('hold for the spike only when all is counted, and nothing twice', () => {
    const spike = (lost: number, tallyMismatches = 0): Sample[] => [
      { scenario: 'spike', side: 'turnout', round: 1, params: {}, metrics: { lost, tallyMismatches } },
    ];
    expect(holds(spike(0), 'spike')).toBe(true);
    for (const wrong of [spike(3), spike(-3), spike(0, 1)]) expect(holds(wrong, 'spike')).toBe(false);
  });

  test('are not judged where nothing was measured', () => {
    expect(judgeGoals([]).every((goal) => goal.holds === undefined)).toBe(true);
    expect(holds(samplesOf('turnout', [24]), 'CPU of the empty')).toBeUndefined();
  });
});

describe('the noise', () => {
  test('is named when others used much of the machine', () => {
    expect(noiseOf(samplesOf('turnout', [5, 40, 60], 'othersPercent'))).toMatch(/^Others took 40 %/);
    expect(noiseOf(samplesOf('turnout', [0, 3, 60], 'othersPercent'))).toBeUndefined();
    expect(noiseOf([])).toBeUndefined();
  });
});

describe('the page', () => {
  test('shows every scenario that was measured, and nothing can break out of it', () => {
    const page = renderPage(resultOf([...samplesOf('turnout', [40]), ...samplesOf('<empty>', [20])]));
    expect(page).toContain('<svg');
    expect(page).toContain('&lt;empty>');
    expect(page).not.toContain('<empty>');
    expect(page).not.toMatch(/NaN|undefined|Infinity/);
    // It needs nothing from anywhere.
    expect(page).not.toMatch(/<script|<link|src=|https?:/);
  });
});
