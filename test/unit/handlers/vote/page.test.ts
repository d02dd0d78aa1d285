import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { createPages } from '#handlers/vote/page.ts';
import type { Phase } from '#handlers/vote/polls.ts';
import { pollBook, pollFields, storedPoll } from '#kit/polls.ts';
import { CHALLENGE_SERVICES } from '#runtime/challenges.ts';
import type { Poll, StoredPoll } from '#runtime/polls.ts';

const choices = [{ id: 'cats', label: 'Cats' }];
const ARABIC = {
  id: 'arabic',
  question: 'القطط؟',
  choices,
  lang: 'ar',
  opensAt: Date.UTC(2027, 1, 7, 23, 30),
  closesAt: Date.UTC(2027, 2, 8, 1, 30),
  texts: { invitation: 'ادعُ <b>', thanks: 'شكرا', notOpen: 'تفتح في', closes: 'تغلق في', closed: 'مغلق' },
};

/** Returns the page of the first poll. */
function pageOf(polls: readonly Poll[], phase: Phase = 'open', chosen?: string) {
  const book = pollBook(polls);
  return createPages(book).voter(book.get(polls[0]?.id ?? '') as StoredPoll, { phase, chosen });
}

test('a page follows its poll, its phase, and the other polls that it links to', () => {
  const polls = pollBook([
    { id: 'a', question: 'First?', choices },
    { id: 'b', question: 'Second?', choices },
  ]);
  const pages = createPages(polls);
  const bodyOf = (id: string, phase: Phase = 'open') =>
    pages.voter(polls.get(id) as StoredPoll, { phase }).body;
  expect(bodyOf('a')).toContain('Second?');
  expect(bodyOf('a', 'closed')).toContain('This poll is closed.');
  polls.apply(pollFields([storedPoll({ id: 'b', question: 'Changed?', choices, revision: 2 }, 1)]));
  expect(bodyOf('a')).toContain('Changed?');
  expect(bodyOf('b')).toContain('<h1>Changed?</h1>');
  polls.apply(
    pollFields([storedPoll({ id: 'b', question: 'Changed?', choices, revision: 3, hidden: true }, 1)]),
  );
  expect(bodyOf('a')).not.toContain('Changed?');
  expect(bodyOf('b')).toContain('<h1>Changed?</h1>');
  polls.apply(pollFields([storedPoll({ id: 'b', question: 'Changed?', choices, revision: 4 }, 1)]));
  expect(bodyOf('a')).toContain('Changed?');
  polls.apply(
    pollFields([storedPoll({ id: 'b', question: 'Changed?', choices, revision: 5, position: null })]),
  );
  expect(bodyOf('a')).not.toContain('Changed?');
});

test('a page is English, from left to right, unless its poll has a language', () => {
  const english = { id: 'english', question: 'Cats?', choices };
  expect(pageOf([english]).body).toContain('<html lang="en" dir="ltr">');
  const { body } = pageOf([ARABIC, english]);
  expect(body).toContain('<html lang="ar" dir="rtl">');
  expect(body).toContain('<a href="/polls/english" lang="en" dir="ltr">Cats?</a>');
});

test("a poll's texts replace the page's, escaped, with times in its language", () => {
  const textsOf = (phase: Phase, chosen?: string) =>
    /<p class="lede">[\s\S]*?<form/.exec(pageOf([ARABIC], phase, chosen).body)?.[0] ?? '';
  expect(textsOf('open')).toMatch(
    /<p class="lede">ادعُ &lt;b&gt; تغلق في <time datetime="2027-03-08T01:30:00.000Z">.*مارس.* UTC<\/time>/,
  );
  expect(textsOf('not open')).toMatch(
    /<p class="lede">تفتح في <time datetime="2027-02-07T23:30:00.000Z">.*فبراير.* UTC<\/time>/,
  );
  expect(textsOf('closed')).toContain('<p class="lede">مغلق</p>');
  expect(textsOf('open', 'cats')).toContain('>شكرا <strong lang="ar" dir="rtl">Cats</strong></p>');
  for (const phase of ['open', 'not open', 'closed'] as const) {
    expect(textsOf(phase, 'cats')).not.toMatch(/vote|poll/i);
  }
});

test("the page's own texts are marked as English on the page of a poll in another language", () => {
  const polls = [{ ...ARABIC, texts: {} }];
  expect(pageOf(polls).body).toContain('<p class="lede"><span lang="en" dir="ltr">Tap to vote.');
  expect(pageOf(polls, 'open', 'cats').body).toContain('role="status" lang="en" dir="ltr">Your vote is in: ');
});

test('a page has the colours of its poll, and its policy allows that style only', () => {
  const colours = { light: '#0b5d3b', dark: '#8ee0b9' };
  const plain = pageOf([{ ...ARABIC, id: 'plain' }]);
  const coloured = pageOf([{ ...ARABIC, colours }]);
  for (const { body, headers } of [plain, coloured]) {
    const style = /<style>([\s\S]*)<\/style>/.exec(body)?.[1] ?? '';
    const hash = createHash('sha256').update(style).digest('base64');
    expect(headers['Content-Security-Policy']).toContain(`style-src 'sha256-${hash}';`);
  }
  expect(coloured.body).toContain('--accent: #0b5d3b;');
  expect(coloured.body).toContain('--accent: #8ee0b9;');
  expect(plain.body).not.toContain('#0b5d3b');
});

test('an open poll shows the configured challenge, which its policy allows, and only then', () => {
  const book = pollBook([{ id: 'a', question: 'First?', choices }]);
  const poll = book.get('a') as StoredPoll;
  const service = CHALLENGE_SERVICES.turnstile;
  const pages = createPages(book, { service, sitekey: 'key' });
  const { body, headers } = pages.voter(poll, { phase: 'open' });
  expect(body).toContain('<div class="cf-turnstile" data-sitekey="key"></div>');
  expect(body).toContain('src="https://challenges.cloudflare.com/turnstile/v0/api.js"');
  expect(headers['Content-Security-Policy']).toContain(`frame-src ${service.sources.join(' ')};`);
  for (const other of [
    pages.voter(poll, { phase: 'closed' }),
    createPages(book).voter(poll, { phase: 'open' }),
  ]) {
    expect(other.body).not.toContain('cf-turnstile');
    expect(other.headers['Content-Security-Policy']).not.toContain('frame-src');
  }
});

test('the page and the definition are the same for everybody, and rendered again only after a change', () => {
  const polls = pollBook([{ id: 'a', question: 'First?', choices }]);
  const pages = createPages(polls);
  const poll = () => polls.get('a') as StoredPoll;
  const first = pages.poll(poll(), 'open');
  expect(pages.poll(poll(), 'open')).toBe(first);
  expect(pages.definition(poll(), 'open')).toBe(pages.definition(poll(), 'open'));
  expect(pages.poll(poll(), 'closed').etag).not.toBe(first.etag);
  polls.apply(pollFields([storedPoll({ id: 'a', question: 'Changed?', choices, revision: 2 }, 0)]));
  expect(pages.poll(poll(), 'open').bodies.identity).toContain('<h1>Changed?</h1>');
});

test('the first view weighs at most 15 KB compressed, with 20 choices', () => {
  const many = Array.from({ length: 20 }, (_, index) => ({
    id: `choice-${index}`,
    label: `Choice ${index}`,
  }));
  const polls = pollBook([{ id: 'a', question: 'First?', choices: many }]);
  const { bodies } = createPages(polls).poll(polls.get('a') as StoredPoll, 'open');
  for (const encoding of ['br', 'gzip'] as const) expect(bodies[encoding].length).toBeLessThan(15 * 1_024);
});
