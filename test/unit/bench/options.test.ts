import { describe, expect, test } from 'vitest';
import { parseOptions } from '#bench/options.ts';

const KNOWN = ['capture', 'drain'];

describe('the options of a run', () => {
  test('are all scenarios, thoroughly, unless something else is said', () => {
    expect(parseOptions([], KNOWN)).toMatchObject({
      command: 'run',
      scenarios: [],
      isQuick: false,
      rounds: 5,
    });
    expect(parseOptions(['capture', '--quick', '--out', 'x', '--compare', 'HEAD~1'], KNOWN)).toEqual({
      command: 'run',
      scenarios: ['capture'],
      isQuick: true,
      shallBuild: true,
      rounds: 3,
      out: 'x',
      compare: 'HEAD~1',
    });
  });

  test.each([
    [['spike'], /no scenario "spike"; there are capture, drain, and plan/],
    [['--rounds', '0'], /--rounds must be a whole number from 1 to 50, not "0"/],
    [['--fast'], /Unknown option '--fast'/],
  ])('%j is refused in one line', (args, message) => {
    expect(() => parseOptions(args, KNOWN)).toThrow(message);
  });
});

describe('the options of a plan', () => {
  test.each([
    ['12000', 12_000],
    ['500k', 500_000],
    ['100M', 100_000_000],
    ['1.5B', 1_500_000_000],
  ])('%s voters', (text, voters) => {
    expect(parseOptions(['plan', '--voters', text, '--minutes', '10'], KNOWN)).toMatchObject({
      command: 'plan',
      voters,
      minutes: 10,
    });
  });

  test.each([['many'], ['0'], ['-5'], ['1e9']])('"%s" voters are refused', (text) => {
    expect(() => parseOptions(['plan', `--voters=${text}`], KNOWN)).toThrow(/--voters must be/);
  });
});
