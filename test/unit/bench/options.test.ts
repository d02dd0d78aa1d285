import { describe, expect, test } from 'vitest';
import { parseOptions } from '#bench/options.ts';

const KNOWN = ['capture', 'drain'];

describe('the command line of a run', () => {
  test('means all scenarios with all rounds by default', () => {
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
    [['spike'], /unknown scenario "spike", expected capture, drain or plan/],
    [['--rounds', '0'], /--rounds must be a whole number from 1 to 50, not "0"/],
    [['--fast'], /^Unknown option '--fast' \(see --help\)$/],
  ])('%j is rejected', (args, message) => {
    expect(() => parseOptions(args, KNOWN)).toThrow(message);
  });
});

describe('the command line of a plan', () => {
  test.each([
    ['12000', 12_000],
    ['500k', 500_000],
    ['100M', 100_000_000],
    ['1.5B', 1_500_000_000],
  ])('accepts %s voters', (text, voters) => {
    expect(parseOptions(['plan', '--voters', text, '--minutes', '10'], KNOWN)).toMatchObject({
      command: 'plan',
      voters,
      minutes: 10,
      from: undefined,
      shallSave: false,
    });
  });

  test.each([[''], ['0'], ['10081'], ['ten']])('rejects "%s" minutes', (text) => {
    expect(() => parseOptions(['plan', `--minutes=${text}`], KNOWN)).toThrow(/--minutes must be/);
  });

  test.each([['many'], ['0'], ['-5'], ['1e9']])('rejects "%s" voters', (text) => {
    expect(() => parseOptions(['plan', `--voters=${text}`], KNOWN)).toThrow(/--voters must be/);
  });
});
