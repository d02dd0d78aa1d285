import { describe, expect, test } from 'vitest';
import { compareResults, comparisonTable } from '#bench/compare.ts';
import { judgeGoals, noiseWarning } from '#bench/goals.ts';
import type { Sample } from '#bench/measure/sample.ts';
import { renderPage } from '#bench/report/page.ts';
import { nodeFlagLines, renderText, resultTable, rowsOf } from '#bench/report/table.ts';
import { interleave } from '#bench/scenarios/scenario.ts';
import { resultOf } from './result.ts';

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

test('runs every side once a round, in an order that is reversed every round', () => {
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
  test('has the median of the rounds and half of their range', () => {
    const text = renderText(resultTable(rowsOf(samplesOf('turnout', [40, 42, 50]), 'capture')));
    expect(text.split('\n')).toEqual([
      '         connections     total µs',
      '───────  ───────────  ───────────',
      'turnout          256  42.00 ±5.00',
    ]);
  });

  test('states what each side passes through, and its Node flags', () => {
    const samples = [
      ...samplesOf('turnout', [40]).map((sample) => ({
        ...sample,
        passesThrough: 'Hono, BullMQ, Redis',
        nodeFlags: ['--a', '--b=1'],
      })),
      ...samplesOf('raw', [20]).map((sample) => ({ ...sample, passesThrough: 'node:http', nodeFlags: [] })),
    ];
    const rows = rowsOf(samples, 'capture');
    expect(resultTable(rows)).toMatchObject({
      headings: ['', 'passes through', 'connections', 'total µs'],
      textColumns: 2,
      rows: [
        ['turnout', 'Hono, BullMQ, Redis', '256', '40.00'],
        ['raw', 'node:http', '256', '20.00'],
      ],
    });
    const lines = ['Node flags: --a --b=1 (turnout)', 'Node flags: none (raw)'];
    expect(nodeFlagLines(rows)).toEqual(lines);
    const page = renderPage(resultOf(samples));
    for (const text of ['<td class="text">Hono, BullMQ, Redis</td>', ...lines]) expect(page).toContain(text);
  });
});

describe('a comparison', () => {
  const before = samplesOf('turnout', [40, 41, 42, 43, 44]);

  test('calls a change significant when the rounds of both sides do not overlap', () => {
    const [found] = compareResults(before, samplesOf('turnout', [30, 31, 32, 33, 34]));
    expect(found).toMatchObject({ metric: 'usTotal', before: 42, after: 32, verdict: 'better' });
    expect(compareResults(samplesOf('turnout', [30, 31, 32, 33, 34]), before)[0]?.verdict).toBe('worse');
  });

  test('calls an increase better for a metric of which more is better', () => {
    const rates = (values: number[]): Sample[] => samplesOf('turnout', values, 'votesPerSecond');
    const [found] = compareResults(rates([1, 2, 3, 4, 5]), rates([6, 7, 8, 9, 10]));
    expect(found?.verdict).toBe('better');
  });

  test('shows no difference when the rounds overlap, or when there are too few', () => {
    expect(compareResults(before, samplesOf('turnout', [39, 41.5, 42.5, 43.5, 45]))[0]?.verdict).toBe(
      'no difference shown',
    );
    expect(compareResults(before.slice(0, 3), samplesOf('turnout', [1, 2, 3]))[0]?.verdict).toBe(
      'too few rounds',
    );
  });

  test('compares only the rows that both results have', () => {
    expect(compareResults(before, samplesOf('another', [1]))).toEqual([]);
  });

  test('counts several measurements in one round as one', () => {
    const often = (from: number): Sample[] =>
      [1, 2].flatMap((round) =>
        Array.from({ length: 25 }, (_, index) => ({
          ...(samplesOf('turnout', [from + index / 100])[0] as Sample),
          round,
        })),
      );
    expect(compareResults(often(40), often(80)).map(({ verdict }) => verdict)).toEqual(['too few rounds']);
  });

  test('is rendered with significant changes first', () => {
    const other = samplesOf('empty', [1, 2, 3, 4, 5]);
    const { rows } = comparisonTable(
      compareResults([...other, ...before], [...other, ...samplesOf('turnout', [1, 2, 3, 4, 5])]),
    );
    expect(rows.map((row) => row.at(-1))).toEqual(['better', 'no difference shown']);
  });
});

describe('the goals', () => {
  const isMet = (samples: readonly Sample[], part: string): boolean | undefined =>
    judgeGoals(samples).find(({ goal }) => goal.includes(part))?.isMet;

  test('take the worse of first and returning voters', () => {
    const empty = samplesOf('empty', [20]);
    const first = samplesOf('turnout', [22]);
    const goal = 'with Redis, CPU relative to the empty';
    expect(isMet([...empty, ...first, ...samplesOf('turnout, returning voters', [23])], goal)).toBe(true);
    expect(isMet([...empty, ...first, ...samplesOf('turnout, returning voters', [24])], goal)).toBe(false);
    expect(
      isMet([...empty, ...samplesOf('turnout', [24]), ...samplesOf('turnout, returning voters', [22])], goal),
    ).toBe(false);
  });

  test('on the instrument fail when equal sides read as different, or more work is not found', () => {
    const sides = (again: number[], busy: number[]): Sample[] =>
      [
        ...samplesOf('empty', [20, 30, 40, 20, 30]),
        ...samplesOf('empty again', again),
        ...samplesOf('empty and busy', busy),
      ].map((sample) => ({ ...sample, scenario: 'self' }));
    const equal = [20, 30, 40, 20, 30];
    const busier = equal.map((value) => value * 1.05);
    expect(isMet(sides(equal, busier), 'against itself')).toBe(true);
    expect(isMet(sides(busier, busier), 'against itself')).toBe(false);
    expect(isMet(sides(equal, busier), 'more work is found')).toBe(true);
    expect(isMet(sides(equal, equal), 'more work is found')).toBe(false);
  });

  test('on the live cost compare with the empty handler at the same rate', () => {
    const at = (side: string, perSecond: number, values: number[]): Sample[] =>
      samplesOf(side, values).map((sample) => ({
        ...sample,
        scenario: 'steady',
        params: { perSecond, frontends: 1 },
      }));
    const empty = [...at('empty', 500, [100, 100]), ...at('empty', 8_000, [20, 40])];
    const goal = 'live at 8,000 votes/s, relative to the empty';
    expect(isMet([...empty, ...at('turnout', 8_000, [32, 64])], goal)).toBe(true);
    expect(isMet([...empty, ...at('turnout', 8_000, [34, 68])], goal)).toBe(false);
  });

  test('are met by a spike only when every vote is counted once', () => {
    const spike = (lost: number, tallyMismatches = 0): Sample[] => [
      { scenario: 'spike', side: 'turnout', round: 1, params: {}, metrics: { lost, tallyMismatches } },
    ];
    expect(isMet(spike(0), 'spike')).toBe(true);
    for (const wrong of [spike(3), spike(-3), spike(0, 1)]) expect(isMet(wrong, 'spike')).toBe(false);
  });

  test('are not judged without a measurement', () => {
    expect(judgeGoals([]).every((goal) => goal.isMet === undefined)).toBe(true);
    expect(isMet(samplesOf('turnout', [24]), 'with Redis, CPU relative to the empty')).toBeUndefined();
  });
});

describe('the noise warning', () => {
  test('appears when other processes used much of the machine', () => {
    expect(noiseWarning(samplesOf('turnout', [5, 40, 60], 'othersPercent'))).toMatch(
      /^Other processes used 40 %/,
    );
    expect(noiseWarning(samplesOf('turnout', [0, 3, 60], 'othersPercent'))).toBeUndefined();
    expect(noiseWarning([])).toBeUndefined();
  });
});

describe('the page', () => {
  test('shows every measured scenario, escaped and self-contained', () => {
    const page = renderPage(resultOf([...samplesOf('turnout', [40]), ...samplesOf('<empty>', [20])]));
    expect(page).toContain('<svg');
    expect(page).toContain('&lt;empty>');
    expect(page).not.toContain('<empty>');
    expect(page).not.toMatch(/NaN|undefined|Infinity/);
    expect(page).not.toMatch(/<script|<link|src=|https?:/);
  });
});
