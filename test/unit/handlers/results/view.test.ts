import { describe, expect, test } from 'vitest';
import type { Results } from '#db/results.ts';
import { toCsv } from '#handlers/results/csv.ts';
import { resultsPage } from '#handlers/results/page.ts';
import { resultView, type ShownResult } from '#handlers/results/view.ts';
import { someResults } from './results.ts';

const FINAL_AT = Date.UTC(2027, 1, 7, 23, 0, 9);
const WRITTEN_OFF = [{ name: 'frontend02', reason: 'its disk <died>' }];
const WRITTEN_OFF_JOBS = [
  {
    name: 'frontend01',
    reason: 'damaged <data>',
    jobs: Array.from({ length: 12 }, (_, index) => `s.${index + 1}`),
  },
];
const AS_OF = Date.UTC(2027, 1, 7, 23, 30, 5);

const pollOf = (results: Results) => results.polls[0] as ShownResult;

function resultsWith(poll: Partial<ShownResult>, changes: Partial<Results> = {}): Results {
  const results = someResults(changes);
  return { ...results, polls: [{ ...pollOf(results), ...poll }] };
}

function viewWith(poll: Partial<ShownResult>, changes: Partial<Results> = {}) {
  const results = resultsWith(poll, changes);
  return resultView(pollOf(results), { results, asOf: AS_OF });
}

describe('the page says how many votes a second arrived lately', () => {
  const bodyOf = (pace: number | null, poll: Partial<ShownResult> = {}) =>
    resultsPage({ results: resultsWith(poll), asOf: AS_OF, pace }).body;

  test.each([
    [0, 'Lately, 0 votes a second.'],
    [0.2, 'Lately, less than one vote a second.'],
    [1.2, 'Lately, 1 vote a second.'],
    [12_345.6, 'Lately, 12,346 votes a second.'],
  ])('%d', (pace, sentence) => {
    expect(bodyOf(pace)).toContain(sentence);
  });

  test('and nothing when that is unknown or a result is embargoed', () => {
    expect(bodyOf(null)).not.toContain('Lately');
    expect(bodyOf(9, { choices: null } as never)).not.toContain('Lately');
  });
});

describe('the status', () => {
  test('is final if and only if the time at which it became final is stored', () => {
    expect(viewWith({}).status).toBe('provisional');
    expect(viewWith({ finalAt: FINAL_AT }).status).toBe('final');
  });

  test.each([
    ['everything is counted', { ledger: { accepted: 3, committed: 3 } }, 'provisional', null],
    ['votes of other polls wait', { ledger: { accepted: 9, committed: 3 } }, 'final', FINAL_AT],
  ] as const)('does not depend on the ledger: %s', (_what, changes, status, finalAt) => {
    expect(viewWith({ finalAt }, changes).status).toBe(status);
  });
});

describe('the JSON', () => {
  test('has the fields of the contract in their order', () => {
    expect(JSON.stringify(viewWith({}))).toBe(
      '{"poll":"cats-vs-dogs","question":"Cats or dogs?","total":3,' +
        '"choices":[{"id":"cats","label":"Cats","votes":2},{"id":"dogs","label":"Dogs","votes":1}],' +
        '"status":"provisional","ledger":{"accepted":3,"committed":3},"asOf":"2027-02-07T23:30:05.000Z"}',
    );
  });

  test('has the time at which the result became final and the nodes written off', () => {
    const text = JSON.stringify(viewWith({ finalAt: FINAL_AT, writtenOff: WRITTEN_OFF }));
    expect(text).toContain(
      '"status":"final","finalAt":"2027-02-07T23:00:09.000Z",' +
        '"writtenOff":[{"name":"frontend02","reason":"its disk <died>"}],"ledger":',
    );
    expect(viewWith({ finalAt: FINAL_AT })).not.toHaveProperty('writtenOff');
  });

  test('names all jobs written off, by node and reason', () => {
    expect(viewWith({ finalAt: FINAL_AT, writtenOffJobs: WRITTEN_OFF_JOBS })).toMatchObject({
      writtenOffJobs: WRITTEN_OFF_JOBS,
    });
    expect(viewWith({ finalAt: FINAL_AT })).not.toHaveProperty('writtenOffJobs');
  });
});

describe('the CSV', () => {
  test('has a line per choice, with line ends of RFC 4180', () => {
    expect(toCsv(viewWith({}))).toBe(
      'poll,question,choice,label,votes,status,final_at,written_off,as_of\r\n' +
        'cats-vs-dogs,Cats or dogs?,cats,Cats,2,provisional,,,2027-02-07T23:30:05.000Z\r\n' +
        'cats-vs-dogs,Cats or dogs?,dogs,Dogs,1,provisional,,,2027-02-07T23:30:05.000Z\r\n',
    );
  });

  test('has the time at which the result became final and the nodes written off', () => {
    const writtenOff = [...WRITTEN_OFF, { name: 'frontend03', reason: 'gone, too' }];
    expect(toCsv(viewWith({ finalAt: FINAL_AT, writtenOff }))).toContain(
      ',Cats,2,final,2027-02-07T23:00:09.000Z,"frontend02: its disk <died>; frontend03: gone, too",2027-',
    );
  });

  test('names all jobs written off', () => {
    const writtenOffJobs = [{ name: 'frontend01', reason: 'damaged', jobs: ['s.1', 's.2'] }];
    expect(toCsv(viewWith({ finalAt: FINAL_AT, writtenOff: WRITTEN_OFF, writtenOffJobs }))).toContain(
      ',frontend02: its disk <died>; s.1 s.2: damaged,2027-',
    );
  });

  test.each([
    ['a "quoted", word', '"a ""quoted"", word"'],
    ['two\nlines', '"two\nlines"'],
    ['=1+1', "'=1+1"],
    ['+1', "'+1"],
    ['-1', "'-1"],
    ['@SUM(A1)', "'@SUM(A1)"],
    ['=HYPERLINK("x","y")', `"'=HYPERLINK(""x"",""y"")"`],
    ['1 = 1', '1 = 1'],
  ])('writes %j as %j', (label, cell) => {
    const csv = toCsv(viewWith({ choices: [{ id: 'a', label, votes: 1 }] }));
    expect(csv).toContain(`cats-vs-dogs,Cats or dogs?,a,${cell},1,provisional,`);
  });
});

describe('the page', () => {
  const pageWith = (poll: Partial<ShownResult>, changes: Partial<Results> = {}): string =>
    resultsPage({ results: resultsWith(poll, changes), asOf: AS_OF }).body;

  test('shows shares, votes, voters, status and time without scripts', () => {
    const text = pageWith({}, { ledger: { accepted: 1_240, committed: 1_234 } });
    expect(text).toContain('<span class="label">Cats</span> <span class="share">66.7%</span>');
    expect(text).toContain('<rect width="66.67%"/>');
    expect(text).toContain('2 votes');
    expect(text).toContain('1 vote<');
    expect(text).toContain('3 voters');
    expect(text).toContain('Provisional');
    expect(text).toContain('<time datetime="2027-02-07T23:30:05.000Z">23:30:05 UTC</time>');
    expect(text).toContain('1,234 of 1,240 accepted votes are processed.');
  });

  test('shows since when a result is final, and the nodes written off with the reason', () => {
    const provisional = pageWith({});
    expect(provisional).not.toContain('Final');
    expect(provisional).not.toContain('written off');
    const text = pageWith({ finalAt: FINAL_AT, writtenOff: WRITTEN_OFF });
    expect(text).toContain('<span class="badge good">Final</span>');
    expect(text).not.toContain('Provisional');
    expect(text).toContain('<time datetime="2027-02-07T23:00:09.000Z">2027-02-07 23:00:09 UTC</time>');
    expect(text).toContain('votes of frontend02, a node that was written off: its disk &lt;died&gt;');
  });

  test('shows how many jobs were written off, the first of them, and the reason', () => {
    expect(pageWith({ finalAt: FINAL_AT, writtenOffJobs: WRITTEN_OFF_JOBS })).toContain(
      'votes in 12 jobs of frontend01 written off ' +
        '(s.1, s.2, s.3, s.4, s.5, s.6, s.7, s.8, s.9, s.10 and 2 more): damaged &lt;data&gt;',
    );
  });

  test('escapes texts of the polls file', () => {
    const text = pageWith({
      question: '<script>alert(1)</script>',
      choices: [{ id: 'a', label: '"><img>', votes: 0 }],
    });
    expect(text).not.toContain('<script>alert');
    expect(text).not.toContain('<img');
    expect(text).toContain('&lt;script&gt;alert(1)&lt;/script&gt;');
  });

  test('marks the leading choices, and none before the first vote', () => {
    const leaders = (...votes: number[]): number =>
      pageWith({ choices: votes.map((count, id) => ({ id: `${id}`, label: `${id}`, votes: count })) }).split(
        'class="result leading"',
      ).length - 1;
    expect([leaders(2, 1), leaders(2, 2, 1), leaders(0, 0)]).toEqual([1, 2, 0]);
  });

  test('renders without a poll', () => {
    const { body: text } = resultsPage({ results: someResults({ polls: [] }), asOf: AS_OF });
    expect(text).toContain('There is no poll yet.');
  });
});
