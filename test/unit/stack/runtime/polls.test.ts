import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { ConfigError } from '#runtime/config.ts';
import {
  formatStoredPoll,
  parsePollsFile,
  parseStoredPoll,
  phaseOf,
  readPollsFile,
  type StoredPoll,
} from '#runtime/polls.ts';

const poll = (changes: object = {}) => ({
  id: 'cats-vs-dogs',
  question: 'Cats or dogs?',
  choices: [
    { id: 'cats', label: 'Cats' },
    { id: 'dogs', label: 'Dogs' },
  ],
  ...changes,
});

function faultsOf(polls: unknown): string {
  try {
    parsePollsFile(typeof polls === 'string' ? polls : JSON.stringify({ polls }), 'polls.json');
  } catch (error) {
    if (error instanceof ConfigError) return error.faults.join('\n');
    throw error;
  }
  return '';
}

describe('the polls file', () => {
  test('of the repository is valid and starts with cats and dogs', () => {
    const { polls } = readPollsFile(join(ROOT, 'stack/polls.json'));
    expect(polls[0]?.id).toBe('cats-vs-dogs');
    expect(polls.length).toBeGreaterThan(1);
  });

  test('yields times in milliseconds', () => {
    const { version, polls } = parsePollsFile(
      JSON.stringify({
        polls: [poll({ opensAt: '2027-02-07T23:30:00Z', closesAt: '2027-02-08T01:30:00+01:00' })],
      }),
      'polls.json',
    );
    expect(version).toBe(1);
    expect(polls[0]).toMatchObject({
      opensAt: Date.UTC(2027, 1, 7, 23, 30),
      closesAt: Date.UTC(2027, 1, 8, 0, 30),
    });
  });

  test.each([
    ['version 0', JSON.stringify({ version: 0, polls: [] }), /version: /],
    ['no JSON', '{', /not JSON/],
    ['no polls', [], /polls: must be at least one/],
    ['an id with capitals', [poll({ id: 'Cats' })], /polls\.0\.id: must be/],
    ['an empty question', [poll({ question: ' ' })], /polls\.0\.question: must not be empty/],
    ['one choice', [poll({ choices: [{ id: 'cats', label: 'Cats' }] })], /choices: must be at least 2/],
    [
      'twenty-one choices',
      [poll({ choices: Array.from({ length: 21 }, (_, n) => ({ id: `c${n}`, label: 'C' })) })],
      /choices: must be at most 20/,
    ],
    [
      'the same choice twice',
      [
        poll({
          choices: [
            { id: 'cats', label: 'Cats' },
            { id: 'cats', label: 'Dogs' },
          ],
        }),
      ],
      /choices: must not repeat/,
    ],
    ['the same poll twice', [poll(), poll()], /polls: must not repeat/],
    ['a time without a zone', [poll({ closesAt: '2027-02-07' })], /closesAt: must be a time with a zone/],
    [
      'a poll that closes before it opens',
      [poll({ opensAt: '2027-02-08T00:00:00Z', closesAt: '2027-02-07T00:00:00Z' })],
      /closesAt must be after opensAt/,
    ],
    ['an unknown member', [poll({ colour: 'red' })], /colour/],
  ])('with %s is refused', (_, polls, message) => {
    expect(faultsOf(polls)).toMatch(message);
  });

  test('reports all faults in one message', () => {
    const faults = faultsOf([poll({ id: 'Cats', question: '' }), poll({ choices: [] })]);
    expect(faults.split('\n').length).toBeGreaterThanOrEqual(3);
  });
});

test('a poll is open from opensAt until before closesAt', () => {
  const hours = { opensAt: 1_000, closesAt: 2_000 };
  expect([999, 1_000, 1_999, 2_000].map((now) => phaseOf(hours, now))).toEqual([
    'not open',
    'open',
    'open',
    'closed',
  ]);
  expect(phaseOf({}, 0)).toBe('open');
});

describe('a stored poll', () => {
  const stored: StoredPoll = {
    id: 'a',
    question: 'A?',
    choices: [{ id: 'yes', label: 'Yes' }],
    revision: 3,
    isClosed: true,
    position: null,
    closesAt: 5,
  };

  test('is parsed as it was formatted, whatever fields a newer worker adds', () => {
    expect(parseStoredPoll('a', formatStoredPoll(stored))).toEqual(stored);
    const newer = JSON.stringify({ ...JSON.parse(formatStoredPoll(stored)), theme: 'dark' });
    expect(parseStoredPoll('a', newer)).toEqual(stored);
  });

  test.each(['{', '{}', formatStoredPoll({ ...stored, revision: 0 })])('is not %j', (text) => {
    expect(parseStoredPoll('a', text)).toBeUndefined();
  });
});
