import { describe, expect, test } from 'vitest';
import { confirmHosts, hostsToConfirm } from '#bench/rehearse/confirm.ts';
import { CHOICES, crowdOf, GROUPS, type Group } from '#bench/rehearse/crowd.ts';
import { parseRehearseOptions } from '#bench/rehearse/options.ts';
import { type Report, renderReport, verdictText } from '#bench/rehearse/report.ts';
import { type GroupOutcome, judge, type Rehearsal, totalsOf } from '#bench/rehearse/verdict.ts';
import { dueUntil } from '#kit/load/generator.ts';
import { requestText } from '#kit/load/requests.ts';
import { GAVE_UP, type LoadResult } from '#kit/load/spec.ts';

const TARGETS = [{ host: '127.0.0.1', port: 8080 }];
const VOTERS = 10_000;
const SECONDS = 60;

describe('the crowd', () => {
  const crowd = crowdOf(VOTERS, SECONDS, TARGETS, 'show');
  const loadOf = (id: Group['id']) => {
    const found = crowd.find(({ group }) => group.id === id);
    if (!found) throw new Error(id);
    return found.spec;
  };
  const dueIn = (id: Group['id'], seconds: number) => dueUntil(loadOf(id).rates ?? [], seconds);

  test('sends a page view and a vote for each voter, and the bot besides', () => {
    const people = GROUPS.filter(({ id }) => id !== 'pages' && id !== 'bot');
    expect(people.reduce((sum, { id }) => sum + dueIn(id, SECONDS), 0)).toBeCloseTo(VOTERS, 3);
    expect(dueIn('pages', SECONDS)).toBeCloseTo(VOTERS, 3);
    expect(dueIn('bot', SECONDS)).toBeCloseTo(0.02 * VOTERS, 3);
  });

  test('is largest at once and fades, while the bot keeps its rate', () => {
    expect(dueIn('homes', 20)).toBeGreaterThan(0.6 * dueIn('homes', SECONDS));
    expect(dueIn('bot', 20)).toBeCloseTo(dueIn('bot', SECONDS) / 3, 3);
  });

  test('puts thousands behind one address, and the others behind many', () => {
    const addressesOf = (id: Group['id']) =>
      new Set(loadOf(id).targets.map(({ localAddress }) => localAddress)).size;
    expect([addressesOf('office'), addressesOf('bot'), addressesOf('homes')]).toEqual([1, 1, 100]);
    const elsewhere = crowdOf(VOTERS, SECONDS, [{ host: '192.168.33.11', port: 80 }], 'show');
    expect(elsewhere.flatMap(({ spec }) => spec.targets).every(({ localAddress }) => !localAddress)).toBe(
      true,
    );
  });

  test('votes for a choice of its own in each group, which the poll offers', () => {
    for (const { group, spec } of crowd.filter(({ group }) => group.kind !== 'page')) {
      const [target] = spec.targets;
      if (!target) throw new Error(group.id);
      const request = requestText(spec.kind, target);
      expect(request).toContain('POST /polls/show/votes ');
      expect(request).toMatch(new RegExp(`choice"?[=:]"?${group.id}`));
      expect(CHOICES.map(({ id }) => id)).toContain(group.id);
    }
    expect(CHOICES).toHaveLength(4);
  });

  test('uses every target, with few connections too', () => {
    const two = crowdOf(10, SECONDS, [...TARGETS, { host: '127.0.0.1', port: 8090 }], 'show');
    for (const { spec } of two) {
      const used = spec.targets.slice(0, spec.connections).map(({ port }) => port);
      expect(new Set(used)).toEqual(new Set([8080, 8090]));
    }
  });
});

function resultOf(numbers: Partial<LoadResult>): LoadResult {
  const { accepted = 0, refused = 0, failed = 0, primed = 10 } = numbers;
  return {
    seconds: SECONDS,
    sentInTime: accepted + refused + failed,
    acceptedInTime: accepted,
    latency: { p50: 2, p99: 20, p999: 40, max: 60 },
    answers: {},
    intervals: [],
    voters: accepted + primed,
    ...numbers,
    accepted,
    refused,
    failed,
    primed,
  };
}

const [PAGES, HOMES] = GROUPS as [Group, Group];
const outcome = (numbers: Partial<LoadResult>, counted: number): GroupOutcome => ({
  group: HOMES,
  connections: 10,
  result: resultOf(numbers),
  counted,
});
const GOOD: Rehearsal = {
  groups: [
    { group: PAGES, connections: 10, result: resultOf({ accepted: 1_000 }), counted: 0 },
    outcome({ accepted: 1_000 }, 1_010),
  ],
  countedMs: 300,
  finalMs: 1_500,
  audit: { verdict: 'good', lost: 0 },
  faults: [],
};
const FAULTS = [{ atSeconds: 9, what: 'worker01 killed' }];
const withVotes = (numbers: Partial<LoadResult>, counted: number): Rehearsal => ({
  ...GOOD,
  groups: [outcome(numbers, counted)],
});

describe('the verdict', () => {
  test('is ready when all accepted votes are counted within the limits', () => {
    expect(judge(GOOD)).toMatchObject({
      outcome: 'ready',
      headline: 'READY: all 1,000 accepted votes are counted, and fast enough.',
    });
  });

  test('leaves page views out of the votes', () => {
    expect(totalsOf(GOOD.groups)).toMatchObject({
      offered: 1_000,
      accepted: 1_000,
      voters: 1_010,
      counted: 1_010,
    });
  });

  test.each<[string, Rehearsal]>([
    ['the result misses one voter', withVotes({ accepted: 1_000 }, 1_009)],
    ['the audit lost one vote', { ...GOOD, audit: { verdict: 'bad', lost: 1 } }],
    ['the audit is bad', { ...GOOD, audit: { verdict: 'bad', lost: 0 } }],
    ['more are counted than requests explain', withVotes({ accepted: 1_000 }, 1_011)],
    ['a fault explains no loss', { ...withVotes({ accepted: 1_000 }, 1_009), faults: FAULTS }],
  ])('fails when %s', (_name, rehearsal) => {
    expect(judge(rehearsal).outcome).toBe('lost');
  });

  test('does not hide the loss of one group behind the surplus of another', () => {
    const groups = [outcome({ accepted: 10 }, 19), outcome({ accepted: 10, failed: 1 }, 21)];
    expect(totalsOf(groups)).toMatchObject({ voters: 40, counted: 40, missing: 1 });
    expect(judge({ ...GOOD, groups }).outcome).toBe('lost');
  });

  test('accepts that a vote without an answer was counted', () => {
    const lostAnswers = { accepted: 1_000, failed: 1, primed: 9, voters: 1_009 };
    expect(judge(withVotes(lostAnswers, 1_011)).outcome).toBe('ready');
    expect(judge(withVotes(lostAnswers, 1_012)).outcome).toBe('lost');
    const latency = { p50: 0, p99: 0, p999: 0, max: 0 };
    const unsent = { ...lostAnswers, answers: { [GAVE_UP]: { count: 1, latency } } };
    expect(judge(withVotes(unsent, 1_011)).outcome).toBe('lost');
  });

  test.each<[string, Rehearsal]>([
    ['the audit cannot read a part', { ...GOOD, audit: { verdict: 'unknown', lost: 0 } }],
    ['the result is not final', { ...GOOD, finalMs: undefined }],
    ['votes still wait', { ...GOOD, countedMs: undefined }],
    ['no vote was accepted', withVotes({ refused: 100 }, 10)],
  ])('is unproven when %s', (_name, rehearsal) => {
    expect(judge(rehearsal).outcome).toBe('unproven');
  });

  const SLOW = { p50: 2, p99: 1_001, p999: 2_000, max: 3_000 };
  test.each<[string, Partial<LoadResult>]>([
    ['over 1 % are refused', { accepted: 989, refused: 11, voters: 999 }],
    ['over 0.1 % have no answer', { accepted: 998, failed: 2, voters: 1_008 }],
    ['the 99th percentile is over a second', { accepted: 1_000, latency: SLOW }],
    ['this machine sent over 1 % late', { accepted: 1_000, sentInTime: 989 }],
  ])('is not ready when %s, which faults excuse', (_name, numbers) => {
    const counted = (numbers.accepted ?? 0) + 10;
    expect(judge(withVotes(numbers, counted)).outcome).toBe('not ready');
    expect(judge({ ...withVotes(numbers, counted), faults: FAULTS }).outcome).toBe('ready');
  });
});

test('the report escapes what it shows and draws the load', () => {
  const interval = { offered: 5, accepted: 4, refused: 1, failed: 0, p50: 1, p99: 2 };
  const rehearsal = { ...withVotes({ accepted: 5, intervals: [interval, interval] }, 15), faults: FAULTS };
  const report: Report = {
    startedAt: '2026-11-24T12:00:00.000Z',
    poll: 'rehearsal-1',
    targets: ['http://<b>'],
    voters: 5,
    minutes: 1,
    rehearsal,
    verdict: judge(rehearsal),
    backlog: { seconds: [0, 1], waiting: [3, 0], counted: [0, 3] },
    outcomes: { ...ZERO, accepted: 15, counted: 15 },
    anomalies: [{ title: 'Poll', sections: [{ title: 'a < b', facts: 'f', heading: ['x'], rows: [['1']] }] }],
  };
  const page = renderReport(report);
  expect(page).toContain('http://&lt;b>');
  expect(page).toContain('<h3>a &lt; b</h3>');
  expect(page.match(/<svg/g)).toHaveLength(3);
  expect(page).toContain('worker01 killed');
  expect(verdictText(report)).toContain('  after 9.0 s: worker01 killed');
});

const ZERO = {
  accepted: 0,
  counted: 0,
  changed: 0,
  superseded: 0,
  rejected: 0,
  pending: 0,
  failed: 0,
  writtenOff: 0,
  lost: 0,
};

describe('the confirmation', () => {
  test('is not needed for this machine and the lab', () => {
    const hosts = ['127.0.0.1', '127.9.9.9', '::1', 'localhost', '192.168.33.11'];
    expect(hostsToConfirm(hosts.map((host) => ({ host })))).toEqual([]);
  });

  test('is needed once for any other host, also for a name that looks like one of these', () => {
    const hosts = [
      'vote.example.com',
      '10.0.0.1',
      '192.168.34.1',
      '127.0.0.1.example.com',
      'vote.example.com',
    ];
    expect(hostsToConfirm(hosts.map((host) => ({ host })))).toEqual(hosts.slice(0, 4));
  });

  test('asks twice on a terminal, and each answer can refuse', async () => {
    const answering = (...answers: string[]) => {
      const asked: string[] = [];
      const ask = async (question: string) => {
        asked.push(question);
        return answers.shift() ?? '';
      };
      return { asked, confirmed: confirmHosts(['a.example'], [], 'a crowd', ask) };
    };
    const both = answering('a.example', 'rehearse');
    await both.confirmed;
    expect(both.asked).toHaveLength(2);
    await expect(answering('yes').confirmed).rejects.toThrow('not confirmed: a.example');
    await expect(answering('a.example', 'yes').confirmed).rejects.toThrow('not confirmed: a.example');
  });

  test('needs --against with the host where there is no terminal', async () => {
    await expect(confirmHosts(['a.example'], ['b.example'], 'a crowd', undefined)).rejects.toThrow(
      '--against a.example',
    );
    await confirmHosts(['a.example'], ['a.example'], 'a crowd', undefined);
  });
});

describe('the options', () => {
  test('name several targets, with and without TLS', () => {
    const args = [
      '--target',
      'http://127.0.0.1:8080',
      '--target',
      'https://vote.example.com',
      '--voters',
      '200k',
    ];
    expect(parseRehearseOptions(args)).toMatchObject({
      targets: [
        { url: 'http://127.0.0.1:8080', host: '127.0.0.1', port: 8080, hostHeader: '127.0.0.1:8080' },
        { host: 'vote.example.com', port: 443, isTls: true, hostHeader: 'vote.example.com' },
      ],
      voters: 200_000,
      hasFaults: false,
    });
  });

  test.each([
    [['--target', 'vote.example.com'], '--target must be like'],
    [['--target', 'http://a.example/polls/x'], '--target must be like'],
    [['--voters', '6M'], '--voters must be at most'],
    [['--minutes', '61'], '--minutes must be at most'],
  ])('refuse %j', (args, message) => {
    expect(() => parseRehearseOptions(args)).toThrow(message);
  });
});
