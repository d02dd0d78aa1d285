import { describe, expect, test } from 'vitest';
import { auditText } from '#audit/cli/text.ts';
import { type AuditInputs, reconcile } from '#audit/reconcile.ts';
import { type AuditReport, auditJson, unreadParts, verdictOf } from '#audit/report.ts';
import type { SourceAudit } from '#db/audit.ts';
import { audit, ELSEWHERE, enrolled, node, OTHER_NODE, range, SOURCE } from '#kit/audit-fixtures.ts';

const NOON = Date.UTC(2027, 1, 7, 12);
const DOWN = { what: '10.0.0.2:6379', reason: 'not connected' };
const OTHER = enrolled({ id: OTHER_NODE, name: 'frontend02' });
const WRITTEN_OFF = { ...OTHER, state: 'written off', writtenOffReason: 'its disk died' } as const;

const rowsOf = (nodes: AuditInputs['nodes'], audits: readonly SourceAudit[]) =>
  reconcile({ nodes, audits, knownBefore: new Set() });

function reportOf(changes: Partial<AuditReport> = {}, queued: readonly number[] = [3]): AuditReport {
  return {
    asOf: NOON,
    rows: rowsOf([node({ seqs: { [SOURCE]: 3 }, queued })], [audit(2)]),
    foreign: [],
    writtenOff: [],
    late: new Map(),
    mismatches: undefined,
    unreachable: [],
    ...changes,
  };
}

const MISMATCH = { poll: 'cats-vs-dogs', choice: 'cats', tally: 2, recount: 1_001 };
const FOREIGN = { source: ELSEWHERE, address: 'r1', isInLedger: true, jobs: 2 };
const rowsWithVotes = (votes: number) =>
  rowsOf([node({ seqs: { [SOURCE]: 3 } })], [{ ...audit(3), votes, counted: votes }]);
const writtenOffRows = rowsOf(
  [node({ seqs: { [SOURCE]: 1 } })],
  [audit(1), { ...audit(2, [3], ELSEWHERE), isWrittenOff: true }],
);

describe('the verdict', () => {
  test.each<[string, AuditReport, string]>([
    ['good when votes only wait', reportOf(), 'good'],
    ['good when the tallies agree', reportOf({ mismatches: [] }), 'good'],
    ['good when all that is missing was written off', reportOf({ rows: writtenOffRows }), 'good'],
    ['bad when a job is lost', reportOf({}, []), 'bad'],
    ['bad when votes are lost without a job', reportOf({ rows: rowsWithVotes(22) }), 'bad'],
    ['bad when receipts have more votes than the ledger', reportOf({ rows: rowsWithVotes(33) }), 'bad'],
    ['bad when a node holds another node’s source', reportOf({ foreign: [FOREIGN] }), 'bad'],
    ['bad when a tally differs', reportOf({ mismatches: [MISMATCH] }), 'bad'],
    ['unknown when a node is down', reportOf({ unreachable: [DOWN] }), 'unknown'],
    ['bad when a job is lost, even with a node down', reportOf({ unreachable: [DOWN] }, []), 'bad'],
    ['unknown without Postgres', reportOf({ rows: undefined, unreachable: [DOWN] }), 'unknown'],
  ])('is %s', (_what, report, verdict) => {
    expect(verdictOf(report)).toBe(verdict);
  });
});

describe('the text', () => {
  test('is an aligned and plain table', () => {
    expect(
      auditText(reportOf({ mismatches: [] }), '.turnout'),
    ).toBe(`Audit of .turnout, 2027-02-07 12:00:00 UTC

SOURCE                         ACCEPTED  COUNTED  CHANGED  SUPERSEDED  REJECTED  PENDING  FAILED  WRITTEN OFF  LOST
─────────────────────────────  ────────  ───────  ───────  ──────────  ────────  ───────  ──────  ───────────  ────
frontend01-aaaaaaaaaaaaa.t0-1        30       20        0           0         0       10       0            0     0
all                                  30       20        0           0         0       10       0            0     0

Nothing is lost: every accepted vote is accounted for, 10 votes of them pending.
Tallies agree with a recount of all votes.`);
  });

  test('lists losses, differing tallies and unreachable parts', () => {
    const text = auditText(reportOf({ mismatches: [MISMATCH], unreachable: [DOWN] }, []), 'x');
    expect(text).toContain(`LOST: 1 job with 10 votes, in no queue and without a receipt:\n  ${SOURCE}.3\n`);
    expect(text).toContain('The tally of cats-vs-dogs/cats is 2, but a recount gives 1,001.');
    expect(text).toContain('Unreachable: 10.0.0.2:6379: not connected.');
    expect(text).not.toContain('Nothing is lost');
  });

  test('says when the tallies were not recounted', () => {
    const text = auditText(reportOf(), 'x');
    expect(text).toContain('Tallies were not recounted; --recount does.');
    expect(text).not.toContain('agree');
  });

  test('names the sources whose ledger and receipts differ in votes', () => {
    const fewer = auditText(reportOf({ rows: rowsWithVotes(22) }), 'x');
    expect(fewer).toContain(`LOST: 8 votes of ${SOURCE}: its ledger counts them`);
    expect(fewer).not.toContain('LOST: 0 jobs');
    expect(fewer).not.toContain('Nothing is lost');
    const more = auditText(reportOf({ rows: rowsWithVotes(33) }), 'x');
    expect(more).toContain(`UNEXPLAINED: the receipts of ${SOURCE} count 3 votes that its ledger does not.`);
    expect(more).not.toContain('Nothing is lost');
  });

  test('names the nodes written off, with the reason, and claims no more than was read', () => {
    const writtenOff = [{ id: OTHER_NODE, name: 'frontend02', reason: 'its disk died' }];
    const text = auditText(reportOf({ rows: writtenOffRows, writtenOff }), 'x');
    expect(text).toContain(`Written off: frontend02 (${OTHER_NODE}) with 10 known votes: its disk died`);
    expect(text).toContain('Beyond what was written off, every accepted vote is accounted for.');
    expect(text).not.toContain('Nothing is lost');
  });

  test('names the failed jobs, and the jobs written off with the reason', () => {
    const audits = [{ ...audit(2, [3]), writtenOffJobs: [{ seq: 2, reason: 'damaged' }] }];
    const text = auditText(
      reportOf({ rows: rowsOf([node({ seqs: { [SOURCE]: 3 }, failed: [3] })], audits) }),
      'x',
    );
    expect(text).toContain(`or write them off there.\n  ${SOURCE}.3\n`);
    expect(text).toContain(`Written off: job ${SOURCE}.2: damaged`);
    expect(text).toContain('Beyond what was written off, every accepted vote is accounted for.');
  });

  test('names the sources of votes that came after their poll was final', () => {
    const text = auditText(reportOf({ late: new Map([[SOURCE, 2]]) }), 'x');
    expect(text).toContain(
      `Too late: 2 votes arrived after the poll was final and are kept as rejected: ${SOURCE}.`,
    );
    expect(auditText(reportOf(), 'x')).not.toContain('Too late');
  });

  test('alarms about a source on a node that is not its own', () => {
    const text = auditText(reportOf({ foreign: [FOREIGN] }), 'x');
    expect(text).toContain(
      `ALARM: r1 holds ${ELSEWHERE}, a source of another node: in the ledger, 2 jobs in the queue.`,
    );
  });

  test('sums up complete old sources when there are many', () => {
    const old = range(1, 30).map((start) => `frontend01-aaaaaaaaaaaaa.s${start.toString(36)}-1`);
    const rows = rowsOf(
      [node({ seqs: Object.fromEntries([...old, SOURCE].map((source) => [source, 1])) })],
      [
        ...old.map((source) => audit(source === old[6] ? 0 : 1, [], source)),
        ...[{ ...audit(1, [], old[8]), votes: 9, counted: 9 }, audit(1)],
      ].filter(({ source, votes }) => source !== old[8] || votes === 9),
    );
    const lines = auditText(reportOf({ rows }), 'x').split('\n');
    const isListed = (source = ''): boolean => lines.some((line) => line.startsWith(`${source} `));
    expect([SOURCE, old[6], old[7], old[8]].map(isListed)).toEqual([true, true, false, true]);
    expect(lines.find((line) => line.startsWith('28 older sources, complete'))).toMatch(/ 280 +280 /);
  });

  test('is only the reason when Postgres is unavailable', () => {
    const unreachable = [{ what: 'Postgres', reason: 'no connection' }];
    const text = auditText(reportOf({ rows: undefined, unreachable }), 'x');
    expect(text.split('\n').slice(2)).toEqual(['Unreachable: Postgres: no connection.']);
  });
});

test('the JSON lists every lost job', () => {
  const rows = rowsOf([node({ seqs: { [SOURCE]: 50 } })], [audit(0)]);
  expect(JSON.parse(auditJson(reportOf({ rows })))).toMatchObject({
    asOf: '2027-02-07T12:00:00.000Z',
    verdict: 'bad',
    total: { accepted: 500, lost: 500 },
    lostJobs: range(1, 50).map((seq) => `${SOURCE}.${seq}`),
    foreign: [],
    writtenOff: [],
    tallies: null,
    unreachable: [],
  });
  expect(JSON.parse(auditJson(reportOf({ mismatches: [] })))).toMatchObject({
    tallies: { agree: true, mismatches: [] },
  });
});

describe('what could not be read', () => {
  const readings = [node({ seqs: { [SOURCE]: 1 } })];
  const unread = (other = OTHER, down = [DOWN], missing: readonly number[] = []) =>
    unreadParts([enrolled(), other], readings, rowsOf(readings, [audit(2, missing, ELSEWHERE)]), down);

  test('is a node that no address belongs to, with the jobs that are missing', () => {
    expect(unread(OTHER, [], [3])).toEqual([
      {
        what: `frontend02 (${OTHER_NODE})`,
        reason: expect.stringContaining('1 job that it accepted') as string,
      },
    ]);
  });

  test('is a node whose known jobs are all counted: it may have accepted more', () => {
    expect(unread(OTHER, []).map(({ what }) => what)).toEqual([`frontend02 (${OTHER_NODE})`]);
  });

  test('includes the address that does not answer', () => {
    expect(unread().map(({ what }) => what)).toEqual([DOWN.what, `frontend02 (${OTHER_NODE})`]);
  });

  test('is an address that no node accounts for', () => {
    expect(unreadParts([enrolled()], readings, [], [DOWN])).toEqual([DOWN]);
  });

  test.each([
    ['retired', { ...OTHER, state: 'retired' } as const],
    ['written off', WRITTEN_OFF],
    ['written off while it was being retired', { ...WRITTEN_OFF, state: 'retiring' } as const],
  ])('is not a %s node, nor its address', (_what, other) => {
    expect(unread(other, [], [3])).toEqual([]);
    expect(unread(other)).toEqual([]);
    expect(unread(other, [DOWN, { ...DOWN, what: '10.0.0.3:6379' }])).toHaveLength(2);
  });
});
