import { beforeEach, expect, test } from 'vitest';
import { PollBook } from '#handlers/vote/polls.ts';
import { recordLog } from '#kit/log.ts';
import { pollFields, storedPoll } from '#kit/polls.ts';
import type { StoredPoll } from '#runtime/polls.ts';

const HOURS = { opensAt: 1_000, closesAt: 2_000 };

let now: number;
let book: PollBook;
let lines: Record<string, unknown>[];

const apply = (...polls: Partial<StoredPoll>[]) =>
  book.apply(
    pollFields(polls.map((poll) => storedPoll({ id: 'a', question: 'Which?', choices: [], ...poll }))),
  );

beforeEach(() => {
  now = 1_000;
  const recorded = recordLog();
  lines = recorded.lines;
  book = new PollBook(recorded.log, () => now);
});

test('lists polls by position, without hidden and withdrawn ones, which keep their address', () => {
  apply({ id: 'last', position: 2 }, { id: 'withdrawn', position: null });
  apply({ id: 'first', position: 1 }, { id: 'hidden', position: 0, hidden: true });
  expect(book.listed.map(({ id }) => id)).toEqual(['first', 'last']);
  expect(book.get('withdrawn')?.position).toBeNull();
  expect(book.get('hidden')?.hidden).toBe(true);
  expect(book.phaseOf('hidden')).toBe('open');
  expect(book.get('none')).toBeUndefined();
});

test('has no more page for a rehearsal that is forgotten', () => {
  apply({ id: 'rehearsal', hidden: true }, { id: 'show', isForgotten: true });
  expect(book.get('rehearsal')).toBeDefined();
  apply({ id: 'rehearsal', hidden: true, isForgotten: true });
  expect(book.get('rehearsal')).toBeUndefined();
  expect(book.get('show')).toBeDefined();
});

test('gives a new list after a change, and the same one without', () => {
  apply({});
  const before = book.listed;
  apply({});
  expect(book.listed).toBe(before);
  apply({ revision: 2 });
  expect(book.listed).not.toBe(before);
});

test('derives the phase of a poll from its hours', () => {
  apply(HOURS);
  const phases = [999, 1_000, 1_999, 2_000].map((time) => {
    now = time;
    return book.phaseOf('a');
  });
  expect(phases).toEqual(['not open', 'open', 'open', 'closed']);
});

test('takes an unknown poll for closed', () => {
  expect(book.isClosed('none')).toBe(true);
  expect(book.phaseOf('none')).toBe('closed');
});

test.each([
  ['isClosed', () => book.isClosed('a')],
  ['phaseOf', () => book.phaseOf('a')],
  ['latch', () => book.latch()],
])('a poll that %s has found closed never reopens, although the clock is set back', (_, find) => {
  apply(HOURS);
  now = 2_000;
  find();
  now = 1_500;
  expect(book.isClosed('a')).toBe(true);
  expect(book.phaseOf('a')).toBe('closed');
  expect(book.unsealed).toEqual([{ poll: 'a', revision: 1 }]);
});

test('a poll that is stored as closed closes before its time', () => {
  apply(HOURS);
  apply({ ...HOURS, isClosed: true });
  expect(book.phaseOf('a')).toBe('closed');
  expect(book.unsealed).toEqual([{ poll: 'a', revision: 1 }]);
});

test('a closed poll stays closed when the same revision is stored as open, or with a later close', () => {
  apply({ isClosed: true });
  apply({ isClosed: false });
  apply({ isClosed: false, closesAt: 9_000 });
  expect(book.isClosed('a')).toBe(true);
});

test('a higher revision reopens a poll, with the new hours', () => {
  apply({ ...HOURS, isClosed: true });
  apply({ ...HOURS, closesAt: 3_000, revision: 2 });
  expect(book.phaseOf('a')).toBe('open');
  expect(book.unsealed).toEqual([]);
  now = 3_000;
  expect(book.phaseOf('a')).toBe('closed');
  expect(book.unsealed).toEqual([{ poll: 'a', revision: 2 }]);
});

test('a lower revision is ignored, and logged once', () => {
  apply({ revision: 2, isClosed: true });
  for (const _ of [1, 2]) apply({ revision: 1 });
  expect(book.get('a')?.revision).toBe(2);
  expect(book.isClosed('a')).toBe(true);
  expect(lines.filter(({ level }) => level === 'warn')).toHaveLength(1);
});

test('a poll that is removed from the node, or is unreadable there, stays as it was', () => {
  apply({ isClosed: true });
  book.apply({ b: 'x' });
  book.apply({ a: '{' });
  expect(book.isClosed('a')).toBe(true);
  expect(book.listed.map(({ id }) => id)).toEqual(['a']);
});

test('a seal on disk is not written again; that of an older revision leaves the newer one', () => {
  apply({ isClosed: true });
  const before = book.unsealed;
  apply({ isClosed: true, revision: 2 });
  book.markSealed(before);
  expect(book.unsealed).toEqual([{ poll: 'a', revision: 2 }]);
  book.markSealed(book.unsealed);
  apply({ isClosed: true, revision: 2, question: 'Who?' });
  book.latch();
  expect(book.unsealed).toEqual([]);
});

test('logs changes and closes, but not what it reads first', () => {
  apply(HOURS);
  expect(lines).toEqual([]);
  apply({ ...HOURS, revision: 2 });
  now = 2_000;
  book.latch();
  book.latch();
  expect(lines.map(({ message, poll, revision }) => [message, poll, revision])).toEqual([
    ['poll changed', 'a', 2],
    ['poll closed', 'a', 2],
  ]);
});
