import { expect, test } from 'vitest';
import { AUDIT_HELP, findTarget, parseAuditOptions, readAuditEnvironment } from '#audit/cli/target.ts';

const WHERE = { DATABASE_URL: 'postgres://db/turnout', QUEUE_NODES: 'r1:6379,/run/r2.sock' };

test('parses every option, and --help lists them', () => {
  expect(parseAuditOptions([])).toEqual({ data: undefined, isJson: false, isRecounted: false });
  expect(parseAuditOptions(['--data', '/x', '--json', '--recount'])).toEqual({
    data: '/x',
    isJson: true,
    isRecounted: true,
  });
  expect(parseAuditOptions(['--help', '--json'])).toBe('help');
  for (const name of ['--recount', '--data', '--json', 'DATABASE_URL', 'QUEUE_NODES'])
    expect(AUDIT_HELP).toContain(name);
});

test.each([[['--nope']], [['--data=']], [['now']]])('%j is refused', (args) => {
  expect(() => parseAuditOptions(args)).toThrow(/--help|--data must name a folder|Unexpected argument/);
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
