import { describe, expect, test } from 'vitest';
import type { AnomalyReport, PollAnomalies } from '#audit/anomalies.ts';
import { anomalyChapters } from '#audit/anomaly-sections.ts';
import { anomaliesJson, anomaliesText } from '#audit/cli/anomalies.ts';
import { emptyPoll, NOON, report } from '#kit/anomaly-fixtures.ts';

const textOf = (changes: Partial<AnomalyReport> = {}): string =>
  anomaliesText({ ...report, ...changes }, '.turnout');
const sectionOf = (title: string, changes: Partial<AnomalyReport> = {}) =>
  anomalyChapters({ ...report, ...changes })
    .flatMap(({ sections }) => sections)
    .find((section) => section.title === title);

describe('the anomaly report', () => {
  test('reads as in the golden file', async () => {
    await expect(`${textOf()}\n`).toMatchFileSnapshot('golden/anomalies.txt');
  });

  test('gives no verdict', () => {
    expect(textOf()).not.toMatch(/fraud|cheat|suspicious|manipulat|fake|attack|\bbots?\b/i);
  });

  test('shows an innocent explanation beside everything that it calls unusual', () => {
    const sections = anomalyChapters(report).flatMap((chapter) => chapter.sections);
    const isExplained = sections.map(
      ({ unusual, innocent }) => (unusual === undefined) === (innocent === undefined),
    );
    expect(isExplained).not.toContain(false);
    expect(sections.filter(({ unusual }) => unusual !== undefined)).toHaveLength(6);
  });

  test('takes shares of the voters with a mint time only', () => {
    expect(sectionOf('Time from mint to vote')?.rows[1]).toEqual(['under 1 second', '250', '25.0 %']);
  });

  test('says at least how many voters voted once', () => {
    expect(sectionOf('First and changed votes')?.facts).toContain('At least 1,150 of 1,250 voters (92.0 %)');
    const totals = { votes: 30, counted: 10, changed: 15, superseded: 5, rejected: 0 };
    expect(sectionOf('First and changed votes', { totals })?.facts).toContain(
      'At least 0 of 10 voters (0.0 %)',
    );
  });

  test.each<[string, PollAnomalies, RegExp]>([
    ['without votes', emptyPoll, /No votes are stored for this poll\./],
    [
      'whose voters have no mint time',
      {
        ...emptyPoll,
        times: {
          ...emptyPoll.times,
          votes: 2,
          withoutMintTime: 2,
          minutes: 1,
          medianMinute: 2,
          busiest: [{ at: NOON, votes: 2 }],
        },
      },
      /under 1 second +0 +–/,
    ],
  ])('has a poll %s', (_what, poll, words) => {
    const text = textOf({ polls: [poll] });
    expect(text).toMatch(words);
    expect(text).not.toMatch(/NaN|Infinity|undefined|null/);
  });

  test('leaves out what compares polls while there is one', () => {
    expect(sectionOf('Voters of one poll')).toBeDefined();
    const polls = report.polls.map((poll) => ({ ...poll, onePollVoters: null }));
    expect(sectionOf('Voters of one poll', { polls })).toBeUndefined();
  });

  test('is the same in JSON, with its time', () => {
    expect(JSON.parse(anomaliesJson(report))).toEqual({ ...report, asOf: '2027-02-07T12:00:00.000Z' });
  });
});
