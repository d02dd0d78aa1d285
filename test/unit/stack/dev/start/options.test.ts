import { expect, test } from 'vitest';
import { HELP, parseOptions } from '#dev/start/options.ts';

test('defaults to two frontends and one worker on port 8080', () => {
  expect(parseOptions([])).toEqual({ frontends: 2, workers: 1, port: 8080, data: '.turnout' });
});

test('parses every option', () => {
  expect(parseOptions(['--frontends', '3', '--workers=4', '--port', '18080', '--data', '/tmp/x'])).toEqual({
    frontends: 3,
    workers: 4,
    port: 18_080,
    data: '/tmp/x',
  });
});

test('returns help, which names every option', () => {
  expect(parseOptions(['--help', '--port', '9000'])).toBe('help');
  for (const name of ['--frontends', '--workers', '--port', '--data']) expect(HELP).toContain(name);
});

test.each([
  [['--frontends', '0'], '--frontends must be a whole number from 1 to 32, not "0"'],
  [['--frontends', '33'], '--frontends must be a whole number from 1 to 32, not "33"'],
  [['--workers', '1.5'], '--workers must be a whole number from 1 to 32, not "1.5"'],
  [['--port', '80'], '--port must be a whole number from 4000 to 31000, not "80"'],
  [['--port', ''], '--port must be a whole number from 4000 to 31000, not ""'],
  [['--data='], '--data must name a folder'],
  [['--nope'], "Unknown option '--nope' (see --help)"],
  [['now'], "Unexpected argument 'now' (see --help)"],
])('rejects %j in one line', (args, message) => {
  const parse = () => parseOptions(args);
  expect(parse).toThrow(message);
  expect(parse).toThrow(/^.* \(see --help\)$/);
});
