import { describe, expect, test } from 'vitest';
import {
  formatLedgerEntry,
  jobKey,
  nodeOf,
  parseBatch,
  parseJobKey,
  parseLedgerEntry,
  UnreadableJobError,
} from '#job';
import { vote } from '#kit/votes.ts';

const SOURCE = 'frontend01.example.com.mh3k2a-x7';

describe('a job key', () => {
  test('is taken apart into what it was made of, also with dots in the node name', () => {
    expect(parseJobKey(jobKey(SOURCE, 42))).toEqual({ source: SOURCE, seq: 42 });
    expect(nodeOf(SOURCE)).toBe('frontend01.example.com');
  });

  test.each([
    '',
    '.',
    '42',
    'x.42',
    `${SOURCE}.0`,
    `${SOURCE}.-1`,
    `${SOURCE}.1e3`,
    `${SOURCE}.`,
    `a:b.c-d.1`,
    "'.a-b.1",
  ])('is not read from %j', (text) => {
    expect(parseJobKey(text)).toBeUndefined();
  });
});

describe('a ledger entry', () => {
  test('is read back as it was written', () => {
    const entry = { seq: 42, votes: 12_345 };
    expect(parseLedgerEntry(formatLedgerEntry(entry))).toEqual(entry);
  });

  test.each(['', '1', '1:', ':1', '1:2:3', '-1:2', '1.5:2', 'a:b'])('is not read from %j', (text) => {
    expect(parseLedgerEntry(text)).toBeUndefined();
  });
});

describe('a job', () => {
  test('is read with its votes in their places, the malformed ones too', () => {
    const votes = [vote(1, 'cats', 0), 'nonsense', vote(2, 'dogs', 0)];
    expect(parseBatch({ source: SOURCE, seq: 1, votes })).toEqual({
      source: SOURCE,
      seq: 1,
      votes: [votes[0], { malformed: 'nonsense' }, votes[2]],
    });
  });

  test.each([
    ['nothing', undefined],
    ['null', null],
    ['text', 'text'],
    ['no source', { seq: 1, votes: [vote(1, 'cats', 0)] }],
    ['a source that would break a key', { source: 'a:b', seq: 1, votes: [vote(1, 'cats', 0)] }],
    ['number 0', { source: SOURCE, seq: 0, votes: [vote(1, 'cats', 0)] }],
    ['half a number', { source: SOURCE, seq: 1.5, votes: [vote(1, 'cats', 0)] }],
    ['no votes', { source: SOURCE, seq: 1 }],
    ['an empty list of votes', { source: SOURCE, seq: 1, votes: [] }],
    ['too many votes', { source: SOURCE, seq: 1, votes: Array.from({ length: 10_001 }) }],
  ])('cannot be read from %s', (_, data) => {
    expect(() => parseBatch(data)).toThrow(UnreadableJobError);
  });
});
