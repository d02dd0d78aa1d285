import { expect, test } from 'vitest';
import { awaitedSentences } from '#handlers/dashboard/awaited.ts';

const NOTHING = { nodes: [], unsealed: [], uncounted: [], unexplained: [] };
const nameOf = (id: string): string => `host of ${id}`;

test.each([
  [{}, []],
  [{ nodes: ['a'] }, ['host of a was not read since the poll closed.']],
  [{ nodes: ['a', 'b'] }, ['host of a, host of b were not read since the poll closed.']],
  [{ unsealed: ['s'] }, ['s has not sealed the poll.']],
  [{ uncounted: ['s', 't'] }, ['s, t have uncounted jobs.']],
  [{ unexplained: ['s'] }, ['s has receipts that differ from its ledger in votes.']],
])('%j is awaited in words', (awaited, sentences) => {
  expect(awaitedSentences({ ...NOTHING, ...awaited }, nameOf)).toEqual(sentences);
});

test('names the first ten only', () => {
  const unsealed = Array.from({ length: 12 }, (_, index) => `s${index}`);
  expect(awaitedSentences({ ...NOTHING, unsealed }, nameOf)).toEqual([
    's0, s1, s2, s3, s4, s5, s6, s7, s8, s9 and 2 more have not sealed the poll.',
  ]);
});
