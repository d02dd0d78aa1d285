import { describe, expect, test } from 'vitest';
import {
  encodeBatch,
  formatApplied,
  formatLedgerEntry,
  formatSeal,
  JOB_VERSION,
  JOB_VOTES_MAX,
  JobVersionError,
  jobKey,
  nodeOf,
  parseBatch,
  parseJobKey,
  parseLedgerEntry,
  readApplied,
  readSeals,
  sealField,
  sourceName,
  startOf,
  UnreadableJobError,
} from '#job';
import { batch, vote } from '#kit/votes.ts';

const SOURCE = 'frontend01.example.com-aaaaaaaaaaaaa.mh3k2a-x7';

describe('a job key', () => {
  test('is parsed back into source and sequence number, with dots in the node name too', () => {
    expect(parseJobKey(jobKey(SOURCE, 42))).toEqual({ source: SOURCE, seq: 42 });
    expect(nodeOf(SOURCE)).toEqual({ name: 'frontend01.example.com', id: 'aaaaaaaaaaaaa' });
    expect(() => nodeOf('frontend01.mh3k2a-x7')).toThrow(RangeError);
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
  ])('is not parsed from %j', (text) => {
    expect(parseJobKey(text)).toBeUndefined();
  });
});

describe('a ledger entry', () => {
  test('is parsed back as formatted', () => {
    const entry = { seq: 42, votes: 12_345 };
    expect(parseLedgerEntry(formatLedgerEntry(entry))).toEqual(entry);
  });

  test.each(['', '1', '1:', ':1', '1:2:3', '-1:2', '1.5:2', 'a:b'])('is not parsed from %j', (text) => {
    expect(parseLedgerEntry(text)).toBeUndefined();
  });
});

describe('what a source has applied', () => {
  test('is parsed back as formatted', () => {
    const applied = new Map([['cats-vs-dogs', { revision: 3, at: 1_763_812_345_678 }]]);
    expect(readApplied({ [SOURCE]: formatApplied(applied) })).toEqual(new Map([[SOURCE, applied]]));
  });

  test.each(['', 'null', '7', '[]', '{"a":1}', '{"a":[1]}', '{"a":["1",2]}', '{"a":[1.5,2]}'])(
    'is nothing when a handler writes %j',
    (value) => {
      expect(readApplied({ [SOURCE]: value, other: '{"a":[1,2]}' })).toEqual(new Map([[SOURCE, new Map()]]));
    },
  );
});

test('the start of a source is in its name', () => {
  const startedAt = 1_763_812_345_678;
  expect(startOf(sourceName('a.b', 'aaaaaaaaaaaaa', `${startedAt.toString(36)}-x7`))).toBe(startedAt);
});

describe('a job', () => {
  test('carries its format version and round-trips', () => {
    const original = batch(42, [vote(1, 'cats', 0)]);
    const data: unknown = JSON.parse(JSON.stringify(encodeBatch(original)));
    expect(data).toEqual({ v: 2, ...original });
    expect(parseBatch(data)).toEqual(original);
  });

  test.each([
    [3, 'job has format version 3, expected 2'],
    ['secret', 'job has no format version, expected 2'],
    [undefined, 'job has no format version, expected 2'],
  ])('of format version %j is not parsed', (v, message) => {
    const data = { ...batch(1, [vote(1, 'cats', 0)]), v };
    expect(() => parseBatch(data)).toThrow(new JobVersionError(v));
    expect(() => parseBatch(data)).toThrow(message);
  });

  test('keeps the position of every vote, malformed ones included', () => {
    const votes = [vote(1, 'cats', 0), 'nonsense', vote(2, 'dogs', 0)];
    expect(parseBatch({ v: JOB_VERSION, source: SOURCE, seq: 1, votes })).toEqual({
      source: SOURCE,
      seq: 1,
      votes: [votes[0], { malformed: 'nonsense' }, votes[2]],
    });
  });

  test.each([
    ['undefined', undefined],
    ['null', null],
    ['text', 'text'],
    ['a missing source', { v: JOB_VERSION, seq: 1, votes: [vote(1, 'cats', 0)] }],
    ['a malformed source', { v: JOB_VERSION, source: 'a:b', seq: 1, votes: [vote(1, 'cats', 0)] }],
    ['sequence number 0', { v: JOB_VERSION, source: SOURCE, seq: 0, votes: [vote(1, 'cats', 0)] }],
    [
      'a fractional sequence number',
      { v: JOB_VERSION, source: SOURCE, seq: 1.5, votes: [vote(1, 'cats', 0)] },
    ],
    ['missing votes', { v: JOB_VERSION, source: SOURCE, seq: 1 }],
    ['an empty list of votes', { v: JOB_VERSION, source: SOURCE, seq: 1, votes: [] }],
    [
      'too many votes',
      { v: JOB_VERSION, source: SOURCE, seq: 1, votes: Array.from({ length: JOB_VOTES_MAX + 1 }) },
    ],
  ])('is unreadable with %s', (_, data) => {
    expect(() => parseBatch(data)).toThrow(UnreadableJobError);
  });
});

describe('a seal', () => {
  test('is read back as it was written, and anything else in the hash is skipped', () => {
    const seal = { revision: 2, seq: 7 };
    const fields = {
      [sealField(SOURCE, 'cats-vs-dogs')]: formatSeal(seal),
      [sealField('nonsense', 'cats-vs-dogs')]: formatSeal(seal),
      [SOURCE]: formatSeal(seal),
      [sealField(SOURCE, 'other')]: '2',
    };
    expect(readSeals(fields)).toEqual([{ source: SOURCE, poll: 'cats-vs-dogs', seal }]);
  });
});
