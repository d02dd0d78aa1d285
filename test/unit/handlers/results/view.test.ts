import { describe, expect, test } from 'vitest';
import type { PollResult, Results } from '#db/results.ts';
import { toCsv } from '#handlers/results/csv.ts';
import { resultsPage } from '#handlers/results/page.ts';
import { REQUEST_MS_MAX, resultView } from '#handlers/results/view.ts';
import { someResults } from './results.ts';

const CLOSES_AT = 1_000_000;
const AS_OF = Date.UTC(2027, 1, 7, 23, 30, 5);

const pollOf = (results: Results): PollResult => results.polls[0] as PollResult;

function resultsWith(poll: Partial<PollResult>, changes: Partial<Results> = {}): Results {
  const results = someResults(changes);
  return { ...results, polls: [{ ...pollOf(results), ...poll }] };
}

function viewWith(poll: Partial<PollResult>, changes: Partial<Results> = {}) {
  const results = resultsWith(poll, changes);
  return resultView(pollOf(results), { results, asOf: AS_OF });
}

describe('the status', () => {
  const settledAfterClose = { settled: true, observedAt: CLOSES_AT + REQUEST_MS_MAX };

  test('is final once every ledger was read after the last possible vote and all jobs are committed', () => {
    expect(viewWith({ closesAt: CLOSES_AT }, settledAfterClose).status).toBe('final');
  });

  test.each([
    ['the poll never closes', {}, settledAfterClose],
    ['jobs wait', { closesAt: CLOSES_AT }, { ...settledAfterClose, settled: false }],
    [
      'a vote may be in flight',
      { closesAt: CLOSES_AT },
      { settled: true, observedAt: CLOSES_AT + REQUEST_MS_MAX - 1 },
    ],
    ['no ledger has been read', { closesAt: CLOSES_AT }, { settled: true, observedAt: null }],
  ])('is provisional while %s', (_reason, poll, changes) => {
    expect(viewWith(poll, changes).status).toBe('provisional');
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
});

describe('the CSV', () => {
  test('has a line per choice, with line ends of RFC 4180', () => {
    expect(toCsv(viewWith({}))).toBe(
      'poll,question,choice,label,votes,status,as_of\r\n' +
        'cats-vs-dogs,Cats or dogs?,cats,Cats,2,provisional,2027-02-07T23:30:05.000Z\r\n' +
        'cats-vs-dogs,Cats or dogs?,dogs,Dogs,1,provisional,2027-02-07T23:30:05.000Z\r\n',
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
  const pageWith = (poll: Partial<PollResult>, changes: Partial<Results> = {}): string =>
    resultsPage({ results: resultsWith(poll, changes), asOf: AS_OF });

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
    const text = resultsPage({ results: someResults({ polls: [] }), asOf: AS_OF });
    expect(text).toContain('There is no poll yet.');
  });
});
