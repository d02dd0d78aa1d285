import { expect, test } from 'vitest';
import { AUDIT_HELP, findTarget, parseAuditOptions, readAuditEnvironment } from '#audit/cli/target.ts';

const WHERE = { DATABASE_URL: 'postgres://db/turnout', QUEUE_NODES: 'r1:6379,/run/r2.sock' };

test('parses every option, and --help lists them', () => {
  const none = { data: undefined, isJson: false, isRecounted: false, isAnomalies: false, poll: undefined };
  expect(parseAuditOptions([])).toEqual(none);
  expect(parseAuditOptions(['--data', '/x', '--json', '--recount'])).toEqual({
    ...none,
    data: '/x',
    isJson: true,
    isRecounted: true,
  });
  expect(parseAuditOptions(['--anomalies', '--poll', 'x'])).toEqual({
    ...none,
    isAnomalies: true,
    poll: 'x',
  });
  expect(parseAuditOptions(['--help', '--json'])).toBe('help');
  for (const name of [
    '--recount',
    '--anomalies',
    '--poll',
    '--data',
    '--json',
    'DATABASE_URL',
    'QUEUE_NODES',
  ])
    expect(AUDIT_HELP).toContain(name);
});

test.each<[string[], RegExp]>([
  [['--nope'], /--help/],
  [['--data='], /--data must name a folder/],
  [['now'], /Unexpected argument/],
  [['--poll', 'x'], /--poll needs --anomalies/],
  [['--anomalies', '--recount'], /leave out --recount/],
])('%j is refused', (args, reason) => {
  expect(() => parseAuditOptions(args)).toThrow(reason);
});

test('selects the system of the environment', async () => {
  const target = findTarget({ data: undefined }, readAuditEnvironment(WHERE));
  expect(target.databaseUrl.reveal()).toBe(WHERE.DATABASE_URL);
  expect((await target.discover()).map(({ name }) => name)).toEqual(['r1:6379', '/run/r2.sock']);
});

test('prefers --data over the environment', () => {
  const look = () => findTarget({ data: '/nowhere/at/all' }, readAuditEnvironment(WHERE));
  expect(look).toThrow('no system in /nowhere/at/all');
});

test('refuses a malformed database URL without printing it', () => {
  expect(() => readAuditEnvironment({ DATABASE_URL: 'secret' })).toThrow(
    /^(?!.*secret).*DATABASE_URL must be/,
  );
});

test('colors only without NO_COLOR', () => {
  expect(readAuditEnvironment({}).noColor).toBe(false);
  expect(readAuditEnvironment({ NO_COLOR: '1' }).noColor).toBe(true);
});
