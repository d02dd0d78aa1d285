import { expect, test } from 'vitest';
import { createPages } from '#handlers/vote/page.ts';
import { pollBook, pollFields, storedPoll } from '#kit/polls.ts';
import type { StoredPoll } from '#runtime/polls.ts';

const choices = [{ id: 'cats', label: 'Cats' }];
const polls = pollBook([
  { id: 'a', question: 'First?', choices },
  { id: 'b', question: 'Second?', choices },
]);
const pages = createPages(polls);
const pageOf = (id: string, phase: 'open' | 'closed' = 'open') =>
  pages.poll(polls.get(id) as StoredPoll, { phase });

test('a page follows its poll, its phase, and the other polls that it links to', () => {
  expect(pageOf('a')).toContain('Second?');
  expect(pageOf('a', 'closed')).toContain('This poll is closed.');
  polls.apply(pollFields([storedPoll({ id: 'b', question: 'Changed?', choices, revision: 2 }, 1)]));
  expect(pageOf('a')).toContain('Changed?');
  expect(pageOf('b')).toContain('<h1>Changed?</h1>');
  polls.apply(
    pollFields([storedPoll({ id: 'b', question: 'Changed?', choices, revision: 3, position: null })]),
  );
  expect(pageOf('a')).not.toContain('Changed?');
});
