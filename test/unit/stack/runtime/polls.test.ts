import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { PIXEL, PIXEL_NAME } from '#kit/images.ts';
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

const withImage = (image: string) =>
  JSON.stringify({
    polls: [
      poll({
        choices: [
          { id: 'cats', label: 'Cats', image },
          { id: 'dogs', label: 'Dogs' },
        ],
      }),
    ],
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

  test('of the manual is valid and uses every member', () => {
    const manual = readFileSync(join(ROOT, 'stack/README.md'), 'utf8');
    const example = /^## The polls file$[\s\S]*?^```json\n([\s\S]*?)^```/m.exec(manual)?.[1] ?? '';
    const { polls } = parsePollsFile(example, 'stack/README.md');
    const members = new Set(polls.flatMap((each) => Object.keys(each)));
    const text = faultsOf([poll({ unknown: 1 })]);
    expect(text).toMatch(/^polls file polls\.json: polls\.0\.unknown: is unknown; the members are /);
    expect([...members].toSorted()).toEqual(text.split(' are ')[1]?.split(', ').toSorted());
    for (const member of members) expect(manual).toMatch(new RegExp(`^\\|.*\`${member}\`.*\\|`, 'm'));
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
      /closesAt: must be after opensAt/,
    ],
    ['an unknown member', [poll({ colour: 'red' })], /polls\.0\.colour: is unknown; the members are id, /],
    ['a missing member', [poll({ question: undefined })], /polls\.0\.question: is missing/],
    ['results that are open', [poll({ results: 'open' })], /polls\.0\.results: must be "live" or "closed"/],
    [
      'votes retained for no day',
      [poll({ retainVotesDays: 0 })],
      /retainVotesDays: must be .* from 1 to 3650/,
    ],
    ['votes retained for half a day', [poll({ retainVotesDays: 0.5 })], /retainVotesDays: must be a whole/],
    ['votes retained for ages', [poll({ retainVotesDays: 3_651 })], /retainVotesDays: must be .* to 3650/],
    ['a language by its name', [poll({ lang: 'english' })], /polls\.0\.lang: must be a language tag/],
    ['a language with an underscore', [poll({ lang: 'pt_BR' })], /polls\.0\.lang: must be a language tag/],
    ['a language of wrong parts', [poll({ lang: 'en-aa-bb-cc' })], /polls\.0\.lang: must be a language tag/],
    [
      'an unknown text',
      [poll({ texts: { hi: 'Hi' } })],
      /texts\.hi: is unknown; the members are invitation, /,
    ],
    ['an empty text', [poll({ texts: { thanks: '' } })], /polls\.0\.texts\.thanks: must not be empty/],
    ['a long text', [poll({ texts: { closed: 'x'.repeat(201) } })], /texts\.closed: must have at most 200/],
    ['texts that are one text', [poll({ texts: 'Hi' })], /polls\.0\.texts: must be an object/],
    [
      'a colour by its name',
      [poll({ colours: { light: 'red', dark: '#ffffff' } })],
      /light: must be a colour/,
    ],
    ['a light colour only', [poll({ colours: { light: '#4a3bc4' } })], /polls\.0\.colours\.dark: is missing/],
    [
      'a light colour that is too bright',
      [poll({ colours: { light: '#777777', dark: '#ffffff' } })],
      /colours\.light: has a contrast of 4\.11:1 with the light page, must be at least 4\.5:1/,
    ],
    [
      'a dark colour that is too dim',
      [poll({ colours: { light: '#000000', dark: '#777777' } })],
      /colours\.dark: has a contrast of 3\.\d\d:1 with the dark page, must be at least 4\.5:1/,
    ],
  ])('with %s is refused', (_, polls, message) => {
    expect(faultsOf(polls)).toMatch(message);
  });

  test('takes an image from a file beside it, and names it by its content', () => {
    const folder = mkdtempSync(join(tmpdir(), 'polls-'));
    try {
      const pixel = Buffer.from(PIXEL, 'base64');
      writeFileSync(join(folder, 'cat.any'), pixel);
      const { polls, images } = parsePollsFile(withImage('cat.any'), join(folder, 'polls.json'));
      expect(polls[0]?.choices).toEqual([
        { id: 'cats', label: 'Cats', image: PIXEL_NAME },
        { id: 'dogs', label: 'Dogs' },
      ]);
      expect([...images]).toEqual([[PIXEL_NAME, pixel]]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test.each([
    ['avif', '\0\0\0\x1cftypavif'],
    ['jpeg', '\xff\xd8\xff\xe0'],
    ['webp', 'RIFF\0\0\0\0WEBPVP8 '],
  ])('takes an image of type %s', (type, start) => {
    const source = `data:;base64,${Buffer.from(start, 'latin1').toString('base64')}`;
    const { polls } = parsePollsFile(withImage(source), 'polls.json');
    expect(polls[0]?.choices[0]?.image).toMatch(new RegExp(`^[0-9a-f]{32}[.]${type}$`));
  });

  test.each([
    ['a file that is missing', 'cat.png', /choices\.0\.image: cannot be read \(ENOENT\)/],
    [
      'a file in another folder',
      '../cat.png',
      /choices\.0\.image: must be the name of a file beside this one/,
    ],
    [
      'a script',
      `data:image/svg+xml;base64,${btoa('<svg xmlns="http://www.w3.org/2000/svg"/>')}`,
      /must be an AVIF/,
    ],
    [
      '49,153 bytes',
      `data:;base64,${Buffer.alloc(49_153).toString('base64')}`,
      /has 49153 bytes, must have at most 49152/,
    ],
  ])('refuses as an image: %s', (_, source, fault) => {
    expect(faultsOf(withImage(source))).toMatch(fault);
  });

  test('refuses more than 4 MiB of images', () => {
    const sources = Array.from({ length: 86 }, (_, n) => {
      const bytes = Buffer.alloc(49_152, n);
      bytes.write('RIFF\0\0\0\0WEBP', 'latin1');
      return `data:;base64,${bytes.toString('base64')}`;
    });
    const polls = sources.map((image, n) =>
      poll({
        id: `p${n}`,
        choices: [
          { id: 'a', label: 'A', image },
          { id: 'b', label: 'B' },
        ],
      }),
    );
    expect(faultsOf(polls.slice(1))).toBe('');
    expect(faultsOf(polls)).toContain('its images have 4227072 bytes, must have at most 4194304');
  });

  test('reports all faults in one message', () => {
    const faults = faultsOf([
      poll({ results: 'open', lang: 'x', texts: { hi: '' }, colours: { light: 'red', dark: '#000000' } }),
      poll({ question: '', opensAt: '2027-02-08T00:00:00Z', closesAt: '2027-02-07T00:00:00Z', more: 1 }),
    ]);
    const paths = faults.split('\n').map((fault) => fault.split(': ')[1]);
    expect(paths).toEqual([
      'polls.0.results',
      'polls.0.lang',
      'polls.0.texts.hi',
      'polls.0.colours.light',
      'polls.0.colours.dark',
      'polls.1.question',
      'polls.1.more',
      'polls.1.closesAt',
      'polls',
    ]);
  });

  test('admits a colour at the limit of contrast', () => {
    expect(faultsOf([poll({ colours: { light: '#707070', dark: '#848484' } })])).toBe('');
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
    choices: [{ id: 'yes', label: 'Yes', image: PIXEL_NAME }],
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

  test('keeps what the polls file declares', () => {
    const options = {
      results: 'closed',
      hidden: true,
      retainVotesDays: 30,
      lang: 'pt-BR',
      texts: { thanks: 'Obrigado!' },
      colours: { light: '#4a3bc4', dark: '#b1a5ff' },
    } as const;
    expect(parseStoredPoll('a', formatStoredPoll({ ...stored, ...options }))).toEqual({
      ...stored,
      ...options,
    });
  });

  test('is readable with values of a newer worker: without them, and with its result embargoed', () => {
    const values = {
      results: 'later',
      retainVotesDays: 0,
      lang: '?',
      texts: { thanks: 1 },
      colours: { light: 'p3' },
    };
    const parsed = parseStoredPoll(
      'a',
      JSON.stringify({ ...JSON.parse(formatStoredPoll(stored)), ...values }),
    );
    expect(parsed).toEqual({ ...stored, results: 'closed' });
    const texts = { thanks: 'Thanks!', hello: 'Hello!' };
    const more = parseStoredPoll('a', JSON.stringify({ ...JSON.parse(formatStoredPoll(stored)), texts }));
    expect(more?.texts).toEqual({ thanks: 'Thanks!' });
  });

  test.each(['{', '{}', formatStoredPoll({ ...stored, revision: 0 })])('is not %j', (text) => {
    expect(parseStoredPoll('a', text)).toBeUndefined();
  });
});
