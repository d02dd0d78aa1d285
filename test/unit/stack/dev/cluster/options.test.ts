import { expect, test } from 'vitest';
import { HELP, parseOptions } from '#dev/cluster/options.ts';
import { StartError } from '#dev/errors.ts';

test('defaults to two frontends and one worker', () => {
  expect(parseOptions([])).toEqual({ command: 'run', frontends: 2, workers: 1 });
});

test('parses every option', () => {
  expect(parseOptions(['--frontends', '100', '--workers=50'])).toEqual({
    command: 'run',
    frontends: 100,
    workers: 50,
  });
  expect(parseOptions(['--clean'])).toEqual({ command: 'clean' });
  expect(parseOptions(['--help', '--clean'])).toEqual({ command: 'help' });
  for (const name of ['--frontends', '--workers', '--clean']) expect(HELP).toContain(name);
});

test.each([
  ['0', '1'],
  ['101', '1'],
  ['1', '0'],
  ['1', '51'],
  ['1.5', '1'],
  ['many', '1'],
])('rejects %s frontends and %s workers', (frontends, workers) => {
  expect(() => parseOptions(['--frontends', frontends, '--workers', workers])).toThrow(StartError);
});
