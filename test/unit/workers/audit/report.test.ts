import { describe, expect, test } from 'vitest';
import { auditText } from '#audit/cli/text.ts';
import { reconcile } from '#audit/reconcile.ts';
import { type AuditReport, auditJson, unseenNodes, verdictOf } from '#audit/report.ts';
import { audit, node, range, SOURCE } from '#kit/audit-fixtures.ts';

const NOON = Date.UTC(2027, 1, 7, 12);
const ELSEWHERE = 'frontend02.t0-1';
const DOWN = { what: 'frontend02 (/r2)', reason: 'not connected' };

function reportOf(changes: Partial<AuditReport> = {}, queued: readonly number[] = [3]): AuditReport {
  const rows = reconcile({
    nodes: [node({ seqs: { [SOURCE]: 3 }, queued })],
    audits: [audit(2)],
    knownBefore: new Set(),
  });
  return { asOf: NOON, rows, mismatches: [], unreachable: [], ...changes };
}

const MISMATCH = { poll: 'cats-vs-dogs', choice: 'cats', tally: 2, recount: 1_001 };

describe('the verdict', () => {
  test.each<[string, AuditReport, string]>([
    ['good when votes only wait', reportOf(), 'good'],
    ['bad when a job is lost', reportOf({}, []), 'bad'],
    ['bad when a tally differs', reportOf({ mismatches: [MISMATCH] }), 'bad'],
    ['unknown when a node is down', reportOf({ unreachable: [DOWN] }), 'unknown'],
    ['bad when a job is lost, even with a node down', reportOf({ unreachable: [DOWN] }, []), 'bad'],
    ['unknown without Postgres', reportOf({ rows: [], mismatches: undefined }), 'unknown'],
  ])('is %s', (_what, report, verdict) => {
    expect(verdictOf(report)).toBe(verdict);
  });
});

describe('the table', () => {
  test('is aligned and plain', () => {
    expect(auditText(reportOf(), '.turnout')).toBe(`Audit of .turnout, 2027-02-07 12:00:00 UTC

SOURCE           ACCEPTED  COUNTED  CHANGED  SUPERSEDED  REJECTED  PENDING  FAILED  LOST
───────────────  ────────  ───────  ───────  ──────────  ────────  ───────  ──────  ────
frontend01.t0-1        30       20        0           0         0       10       0     0
all                    30       20        0           0         0       10       0     0

Nothing is lost: every accepted vote is accounted for, 10 votes of them pending.
Tallies agree with a recount of all votes.`);
  });

  test('lists losses, differing tallies and unreachable parts', () => {
    const text = auditText(reportOf({ mismatches: [MISMATCH], unreachable: [DOWN] }, []), 'x');
    expect(text).toContain(`LOST: 1 job with 10 votes, in no queue and without a receipt:\n  ${SOURCE}.3\n`);
    expect(text).toContain('The tally of cats-vs-dogs/cats is 2, but a recount gives 1,001.');
    expect(text).toContain('Unreachable: frontend02 (/r2): not connected.');
    expect(text).not.toContain('Nothing is lost');
  });

  test('sums up complete old sources when there are many', () => {
    const old = range(1, 30).map((start) => `frontend01.s${start.toString(36)}-1`);
    const rows = reconcile({
      nodes: [node({ seqs: Object.fromEntries([...old, SOURCE].map((source) => [source, 1])) })],
      audits: [...old.map((source) => audit(source === old[6] ? 0 : 1, [], source)), audit(1)],
      knownBefore: new Set(),
    });
    const lines = auditText(reportOf({ rows }), 'x').split('\n');
    expect(lines.some((line) => line.startsWith(SOURCE))).toBe(true);
    expect(lines.some((line) => line.startsWith(`${old[6]} `))).toBe(true);
    expect(lines.some((line) => line.startsWith(`${old[7]} `))).toBe(false);
    expect(lines.find((line) => line.startsWith('29 older sources, complete'))).toMatch(/ 290 +290 /);
  });

  test('shows only the reason when Postgres is unavailable', () => {
    const unreachable = [{ what: 'Postgres', reason: 'no connection' }];
    const text = auditText(reportOf({ rows: [], mismatches: undefined, unreachable }), 'x');
    expect(text.split('\n').slice(2)).toEqual(['Unreachable: Postgres: no connection.']);
  });
});

test('the JSON lists every lost job', () => {
  const rows = reconcile({
    nodes: [node({ seqs: { [SOURCE]: 50 } })],
    audits: [audit(0)],
    knownBefore: new Set(),
  });
  expect(JSON.parse(auditJson(reportOf({ rows })))).toMatchObject({
    asOf: '2027-02-07T12:00:00.000Z',
    verdict: 'bad',
    total: { accepted: 500, lost: 500 },
    lostJobs: range(1, 50).map((seq) => `${SOURCE}.${seq}`),
    tallies: { agree: true, mismatches: [] },
    unreachable: [],
  });
});

describe('a node without a reading', () => {
  const rowsWith = (missing: readonly number[]) =>
    reconcile({
      nodes: [node({ seqs: { [SOURCE]: 1 } })],
      audits: [audit(1), audit(2, missing, ELSEWHERE)],
      knownBefore: new Set(),
    });

  test('is reported when jobs of it are missing, even if every known node is reachable', () => {
    expect(unseenNodes(rowsWith([2]), new Set([ELSEWHERE]), [])).toEqual([
      { what: 'frontend02', reason: expect.stringContaining('1 job that it accepted') as string },
    ]);
  });

  test('is not reported when it is new', () => {
    expect(unseenNodes(rowsWith([2]), new Set(), [])).toEqual([]);
  });

  test('is not reported when it was removed and all its jobs are committed', () => {
    expect(unseenNodes(rowsWith([]), new Set([ELSEWHERE]), [])).toEqual([]);
  });

  test('is reported when a node of unknown name is down', () => {
    const unseen = (what: string) =>
      unseenNodes(rowsWith([]), new Set([ELSEWHERE]), [{ what, reason: 'not connected' }]);
    expect(unseen('10.0.0.2:6379').map(({ what }) => what)).toEqual(['frontend02']);
    expect(unseen('frontend02 (/r2)')).toEqual([]);
  });
});
