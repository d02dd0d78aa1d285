import { userInfo } from 'node:os';
import { expect, test } from 'vitest';
import { POLLS_HELP, parsePollsOptions } from '#audit/cli/polls-options.ts';

const WHY = ['--reason', 'the host talks'];
const ME = { who: userInfo().username, why: 'the host talks' };

test.each([
  [['list'], { name: 'list' }],
  [['open', 'a', ...WHY], { name: 'open', poll: 'a', request: ME }],
  [['close', 'a', ...WHY, '--who', 'ada'], { name: 'close', poll: 'a', request: { ...ME, who: 'ada' } }],
  [
    ['extend', 'a', ...WHY, '--minutes', '5'],
    { name: 'extend', poll: 'a', request: ME, extension: { minutes: 5 } },
  ],
  [
    ['extend', 'a', ...WHY, '--until', '2027-02-07T23:30:00+01:00'],
    { name: 'extend', poll: 'a', request: ME, extension: { closesAt: Date.UTC(2027, 1, 7, 22, 30) } },
  ],
  [['embargo', 'a', ...WHY], { name: 'embargo', poll: 'a', request: ME, results: 'closed' }],
  [['embargo', 'a', '--lift', ...WHY], { name: 'embargo', poll: 'a', request: ME, results: 'live' }],
  [['forget', 'a', ...WHY], { name: 'forget', poll: 'a', request: ME }],
])('%j is a command', (args, command) => {
  expect(parsePollsOptions([...args, '--data', '/x'])).toEqual({ command, data: '/x' });
  expect(POLLS_HELP).toContain(`\n  ${args[0]} `);
});

test.each<[string[], RegExp]>([
  [[], /a command and a poll are required/],
  [['close', ...WHY], /a command and a poll are required/],
  [['close', 'a', 'b', ...WHY], /a command and a poll are required/],
  [['shut', 'a', ...WHY], /unknown command "shut"/],
  [['close', 'a'], /--reason must have 1 to 500 characters/],
  [['close', 'a', '--reason', ' '], /--reason must have/],
  [['extend', 'a', ...WHY], /either --minutes or --until/],
  [
    ['extend', 'a', ...WHY, '--minutes', '5', '--until', '2027-02-07T23:30:00Z'],
    /either --minutes or --until/,
  ],
  [['extend', 'a', ...WHY, '--minutes', '0'], /--minutes must be a whole number/],
  [['extend', 'a', ...WHY, '--until', '2027-02-07T23:30'], /a time with a zone/],
  [['extend', 'a', ...WHY, '--until', '2027-13-07T23:30Z'], /a time with a zone/],
  [['list', '--data='], /--data must name a folder/],
  [['close', 'a', '--now'], /--help/],
])('%j is refused', (args, message) => {
  expect(() => parsePollsOptions(args)).toThrow(message);
});

test('--help is shown before anything else is checked', () => {
  expect(parsePollsOptions(['shut', '--help'])).toBe('help');
});
