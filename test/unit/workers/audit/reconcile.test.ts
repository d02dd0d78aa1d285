import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type AuditInputs,
  type NodeReading,
  nameLostJobs,
  nodesToList,
  reconcile,
  type SourceAccount,
  sumOutcomes,
} from '#audit/reconcile.ts';
import type { SourceAudit } from '#db/audit.ts';
import { audit, node, range, SOURCE } from '#kit/audit-fixtures.ts';

const OLDER = 'frontend01.t0-0';
const ELSEWHERE = 'frontend02.t0-1';

function settleOne(
  nodes: readonly NodeReading[],
  audits: readonly SourceAudit[],
  knownBefore: string[] = [],
) {
  const row = reconcile({ nodes, audits, knownBefore: new Set(knownBefore) }).find(
    ({ source }) => source === SOURCE,
  );
  if (!row) throw new Error('the source has no row');
  return row;
}

const jobsOf = ({ jobs: { pending, failed, lost } }: SourceAccount) => ({ pending, failed, lost });
const sumOf = ({ counted, changed, superseded, rejected, pending, failed, lost }: SourceAccount): number =>
  counted + changed + superseded + rejected + pending + failed + lost;

describe('a missing job', () => {
  test('is pending while it is in the queue', () => {
    const row = settleOne([node({ seqs: { [SOURCE]: 3 }, queued: [2, 3] })], [audit(1)]);
    expect(jobsOf(row)).toEqual({ pending: 2, failed: 0, lost: 0 });
    expect(row).toMatchObject({ accepted: 30, counted: 10, pending: 20, failed: 0, lost: 0 });
  });

  test('is failed while it is among the failed jobs', () => {
    const row = settleOne([node({ seqs: { [SOURCE]: 3 }, queued: [3], failed: [2] })], [audit(1)]);
    expect(jobsOf(row)).toEqual({ pending: 1, failed: 1, lost: 0 });
  });

  test('is lost when it is neither in the queue nor in Postgres', () => {
    const row = settleOne([node({ seqs: { [SOURCE]: 3 } })], [audit(2, [2])]);
    expect(jobsOf(row)).toEqual({ pending: 0, failed: 0, lost: 1 });
    expect(row).toMatchObject({ accepted: 30, counted: 20, lost: 10, lostJobs: [2] });
  });

  test('is lost by number even above the highest in Postgres', () => {
    const row = settleOne([node({ seqs: { [SOURCE]: 2_000 }, queued: range(2, 1_998) })], [audit(0)]);
    expect(row.lostJobs).toEqual([1, 1_999, 2_000]);
  });

  test('is lost even when more are missing than Postgres lists', () => {
    const missing = range(1, 500);
    const row = settleOne(
      [node({ seqs: { [SOURCE]: 600 }, queued: range(101, 490) })],
      [audit(100, missing)],
    );
    expect(jobsOf(row)).toEqual({ pending: 390, failed: 0, lost: 110 });
    expect(row.lostJobs).toEqual(range(1, 100));
    const { keys, more } = nameLostJobs([row], 20);
    expect([keys.length, keys[19], more]).toEqual([20, `${SOURCE}.20`, 90]);
  });

  test('is pending while its node is unreachable', () => {
    const row = settleOne([node({ fault: 'not connected' })], [audit(2, [2])]);
    expect(jobsOf(row)).toEqual({ pending: 1, failed: 0, lost: 0 });
    expect(row.reachable).toBe(false);
  });

  test('counts as accepted by the last reading while its node is unreachable', () => {
    const row = settleOne([node({ fault: 'not connected', seqs: { [SOURCE]: 9 } })], [audit(2)]);
    expect(row).toMatchObject({ accepted: 90, counted: 20, pending: 70, reachable: false });
  });

  test('is pending while the queue is not listed', () => {
    const row = settleOne([node({ seqs: { [SOURCE]: 3 }, isListed: false })], [audit(2, [2])]);
    expect(jobsOf(row)).toEqual({ pending: 1, failed: 0, lost: 0 });
  });

  test('is not lost when it was captured after the ledger was read', () => {
    const row = settleOne([node({ seqs: { [SOURCE]: 3 } })], [audit(4, [4])]);
    expect(jobsOf(row)).toEqual({ pending: 1, failed: 0, lost: 0 });
  });

  test('is no longer missing when it was committed after the listing', () => {
    const row = settleOne([node({ seqs: { [SOURCE]: 3 }, queued: [2, 3] })], [audit(3)]);
    expect(row).toMatchObject({ accepted: 30, counted: 30, pending: 0, lost: 0 });
  });
});

describe('a source missing from its node', () => {
  const forgetful = node({ seqs: { [OLDER]: 1 }, source: OLDER });

  test('has lost its jobs if it was in Postgres before and every node is reachable', () => {
    const row = settleOne([forgetful], [audit(2, [2]), audit(1, [], OLDER)], [SOURCE]);
    expect(jobsOf(row)).toEqual({ pending: 0, failed: 0, lost: 1 });
  });

  test('may be new if it was not in Postgres before', () => {
    const row = settleOne([forgetful], [audit(2, [2]), audit(1, [], OLDER)]);
    expect(jobsOf(row)).toEqual({ pending: 1, failed: 0, lost: 0 });
  });

  test('may be on an unreachable node', () => {
    const down = node({ name: 'r2', fault: 'not connected' });
    const row = settleOne([forgetful, down], [audit(2, [2])], [SOURCE]);
    expect(jobsOf(row)).toEqual({ pending: 1, failed: 0, lost: 0 });
  });

  test('may be on a removed node', () => {
    const other = node({ name: 'r2', seqs: { [ELSEWHERE]: 1 }, source: ELSEWHERE });
    const row = settleOne([other], [audit(2, [2])], [SOURCE]);
    expect(row).toMatchObject({ reachable: false, pending: 10, lost: 0 });
  });
});

describe('listing job ids', () => {
  const listed = (nodes: readonly NodeReading[], audits: readonly SourceAudit[]): string[] => [
    ...nodesToList({ nodes, audits }),
  ];

  test('is not needed when nothing is missing', () => {
    expect(listed([node({ seqs: { [SOURCE]: 3 }, failed: [1] })], [audit(3)])).toEqual([]);
  });

  test('is not needed while the queue holds as many jobs as are missing', () => {
    const busy = node({ seqs: { [SOURCE]: 9 }, queued: range(3, 9), isListed: false });
    expect(listed([busy], [audit(2)])).toEqual([]);
  });

  test('is needed when the queue holds fewer', () => {
    const short = node({ seqs: { [SOURCE]: 9 }, queued: range(4, 9), isListed: false });
    const other = node({ name: 'r2', seqs: { [ELSEWHERE]: 1 }, source: ELSEWHERE });
    expect(listed([short, other], [audit(2), audit(1, [], ELSEWHERE)])).toEqual(['r1']);
  });

  test('is needed when jobs are missing and some have failed', () => {
    const failing = node({ seqs: { [SOURCE]: 9 }, queued: range(4, 9), failed: [3], isListed: false });
    expect(listed([failing], [audit(2)])).toEqual(['r1']);
  });

  test('is not requested of an unreachable node', () => {
    expect(listed([node({ fault: 'not connected', seqs: { [SOURCE]: 9 } })], [audit(2)])).toEqual([]);
  });
});

describe('any system', () => {
  /** Location of each job of a source: queue, failed, Postgres, both, or none. */
  const placeOfJob = fc.constantFrom('queued', 'failed', 'committed', 'leaving', 'lost' as const);

  function inputsOf(places: readonly string[], later: number): AuditInputs {
    const numbers = (...wanted: string[]): number[] =>
      places.flatMap((place, index) => (wanted.includes(place) ? [index + 1] : []));
    const seq = places.length;
    // Jobs captured and counted after the ledger was read: Postgres has them, the ledger does not.
    const committed = [...numbers('committed', 'leaving'), ...range(seq + 1, seq + later)];
    const top = Math.max(0, ...committed);
    const missing = range(1, top).filter((number) => !committed.includes(number));
    const reading = node({
      seqs: { [SOURCE]: seq },
      queued: numbers('queued', 'leaving'),
      failed: numbers('failed'),
    });
    return { nodes: [reading], audits: [audit(committed.length, missing)], knownBefore: new Set([SOURCE]) };
  }

  test('adds up, and never reports a false loss', () => {
    fc.assert(
      fc.property(fc.array(placeOfJob, { maxLength: 300 }), fc.nat(5), (places, later) => {
        const [row] = reconcile(inputsOf(places, later));
        if (!row) throw new Error('the source has no row');
        const lost = places.filter((place) => place === 'lost').length;
        expect(row.jobs.lost).toBeLessThanOrEqual(lost);
        expect(row.jobs.committed + row.jobs.pending + row.jobs.failed + row.jobs.lost).toBe(
          row.jobs.accepted,
        );
        expect(sumOf(row)).toBe(row.accepted);
      }),
    );
  });

  test('reports every loss and failure once nothing is in transit', () => {
    const still = fc.array(fc.constantFrom('queued', 'failed', 'committed', 'lost'), { maxLength: 300 });
    fc.assert(
      fc.property(still, (places) => {
        const [row] = reconcile(inputsOf(places, 0));
        const count = (wanted: string): number => places.filter((place) => place === wanted).length;
        expect(row?.jobs).toMatchObject({
          pending: count('queued'),
          failed: count('failed'),
          lost: count('lost'),
        });
        const lost = places.flatMap((place, index) => (place === 'lost' ? [index + 1] : []));
        const named = row?.lostJobs ?? [];
        expect(named).toEqual(lost.slice(0, named.length));
      }),
    );
  });
});

test('sumOutcomes adds every outcome', () => {
  const nodes = [node({ seqs: { [SOURCE]: 3, [OLDER]: 2 }, queued: [3] })];
  const rows = reconcile({ nodes, audits: [audit(2), audit(1, [], OLDER)], knownBefore: new Set() });
  expect(sumOutcomes(rows)).toMatchObject({ accepted: 50, counted: 30, pending: 10, lost: 10 });
});
