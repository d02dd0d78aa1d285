import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { NodeReading } from '#audit/ownership.ts';
import {
  type AuditInputs,
  jobsAtFault,
  nameJobs,
  nodesToList,
  reconcile,
  type SourceAccount,
  sumOutcomes,
} from '#audit/reconcile.ts';
import type { SourceAudit } from '#db/audit.ts';
import { jobKey } from '#job';
import { audit, ELSEWHERE, node, OLDER, OTHER_NODE, range, SOURCE } from '#kit/audit-fixtures.ts';

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
const sumOf = (row: SourceAccount): number =>
  row.counted +
  row.changed +
  row.superseded +
  row.rejected +
  row.pending +
  row.failed +
  row.writtenOff +
  row.lost;

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
    const { keys, more } = nameJobs([row], 'lost', 20);
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

  test('has lost its jobs if it was in Postgres before, even with another node down', () => {
    const audits = [audit(2, [2]), audit(1, [], OLDER)];
    const down = node({ name: 'r2', source: ELSEWHERE, fault: 'not connected' });
    for (const nodes of [[forgetful], [forgetful, down]]) {
      expect(jobsOf(settleOne(nodes, audits, [SOURCE]))).toEqual({ pending: 0, failed: 0, lost: 1 });
    }
  });

  test('may be new if it was not in Postgres before', () => {
    const row = settleOne([forgetful], [audit(2, [2]), audit(1, [], OLDER)]);
    expect(jobsOf(row)).toEqual({ pending: 1, failed: 0, lost: 0 });
  });

  test('may be on its node while that is unreachable, has no id or has left discovery', () => {
    const other = node({ name: 'r2', seqs: { [ELSEWHERE]: 1 }, source: ELSEWHERE });
    for (const nodes of [
      [{ ...forgetful, fault: 'not connected' }],
      [node({ id: undefined })],
      [other],
      [],
    ]) {
      const row = settleOne(nodes, [audit(2, [2])], [SOURCE]);
      expect(row).toMatchObject({ reachable: false, pending: 10, lost: 0 });
    }
  });

  test('is not taken for one of another node with the same host name', () => {
    const twin = `frontend01-${OTHER_NODE}.t0-1`;
    const row = settleOne([node({ seqs: { [twin]: 1 }, source: twin })], [audit(2, [2])], [SOURCE]);
    expect(row).toMatchObject({ node: 'aaaaaaaaaaaaa', name: 'frontend01', reachable: false, lost: 0 });
  });

  test('is found at the newer of two addresses', () => {
    const nodes = [
      node({ fault: 'gone', seqs: { [SOURCE]: 2 } }),
      node({ name: 'r2', seqs: { [SOURCE]: 2 } }),
    ];
    expect(settleOne(nodes, [audit(1, [2])])).toMatchObject({ reachable: true, lost: 10 });
  });
});

describe('votes', () => {
  const short = { ...audit(3), votes: 22, counted: 22 };

  test('are lost when all jobs have receipts, but with fewer votes than the ledger', () => {
    const row = settleOne([node({ seqs: { [SOURCE]: 3 } })], [short]);
    expect(row).toMatchObject({ accepted: 30, counted: 22, pending: 0, lost: 8, unexplained: 8 });
    expect(row.jobs.lost).toBe(0);
    expect(sumOf(row)).toBe(row.accepted);
  });

  test('are lost by the comparison in Postgres while later jobs are pending', () => {
    const compared = { ...audit(3), acceptedSeq: 3, votes: 22, counted: 22, unexplainedVotes: 8 };
    const row = settleOne([node({ seqs: { [SOURCE]: 5 }, queued: [4, 5] })], [compared]);
    expect(row).toMatchObject({ accepted: 50, counted: 22, pending: 20, lost: 8, unexplained: 8 });
  });

  test('are lost by the mirror while the node is unreachable', () => {
    expect(settleOne([], [short])).toMatchObject({ reachable: false, lost: 8, pending: 0, unexplained: 8 });
  });

  test('in receipts beyond the ledger are unexplained, not lost', () => {
    const over = { ...audit(3), votes: 33, counted: 33 };
    const row = settleOne([node({ seqs: { [SOURCE]: 3 } })], [over]);
    expect(row).toMatchObject({ accepted: 33, counted: 33, lost: 0, unexplained: -3 });
    const compared = { ...audit(3), votes: 33, counted: 33, unexplainedVotes: -3 };
    expect(settleOne([node({ seqs: { [SOURCE]: 5 }, queued: [4, 5] })], [compared]).unexplained).toBe(-3);
  });

  test('stay unexplained when later jobs make up for the difference', () => {
    const row = settleOne([node({ seqs: { [SOURCE]: 3 } })], [{ ...audit(3), unexplainedVotes: 8 }]);
    expect(row).toMatchObject({ lost: 0, unexplained: 8 });
  });
});

describe('a fenced source', () => {
  const fenced = { ...audit(3), fencedSeq: 3 };

  test('has the totals of Postgres, and its later jobs are discarded ones', () => {
    const ahead = node({ seqs: { [SOURCE]: 6 }, queued: [4, 5], failed: [6], fenced: [SOURCE] });
    const row = settleOne([ahead], [fenced]);
    expect(row).toMatchObject({ accepted: 30, counted: 30, pending: 0, failed: 0, lost: 0, unexplained: 0 });
    expect(row.jobs).toMatchObject({ accepted: 3, pending: 0, failed: 0, lost: 0, discarded: 3 });
  });

  test('still has jobs up to the fence to account for', () => {
    const behind = { ...audit(1, [2, 3]), fencedSeq: 3 };
    const row = settleOne([node({ seqs: { [SOURCE]: 6 }, queued: [2, 5], failed: [6] })], [behind]);
    expect(row.jobs).toMatchObject({ accepted: 3, pending: 1, failed: 0, lost: 1, discarded: 2 });
    expect(row.lostJobs).toEqual([3]);
  });

  test('has lost no job that it captured after its queue was listed and before its fence', () => {
    const row = settleOne([node({ seqs: { [SOURCE]: 3 } })], [{ ...audit(3, [4]), fencedSeq: 4 }]);
    expect(jobsOf(row)).toEqual({ pending: 1, failed: 0, lost: 0 });
  });

  test('remains on a Redis that was enrolled anew under another id', () => {
    const anew = node({ id: OTHER_NODE, seqs: { [SOURCE]: 3 }, queued: [3], fenced: [SOURCE] });
    const row = settleOne([anew], [{ ...audit(2, [3]), fencedSeq: 3 }]);
    expect(row).toMatchObject({ reachable: true, pending: 10, lost: 0 });
  });
});

describe('a written-off node', () => {
  const gone = { ...audit(2, [3]), isWrittenOff: true };

  test('has its missing votes written off while it cannot be read', () => {
    for (const nodes of [[], [node({ fault: 'not connected', seqs: { [SOURCE]: 4 } })]]) {
      const row = settleOne(nodes, [gone]);
      expect(row).toMatchObject({ pending: 0, failed: 0, lost: 0, writtenOff: row.accepted - 20 });
      expect(row.jobs).toMatchObject({ pending: 0, lost: 0, writtenOff: row.jobs.accepted - 2 });
      expect(sumOf(row)).toBe(row.accepted);
    }
  });

  test('has votes that its receipts lack written off as well', () => {
    const row = settleOne([], [{ ...audit(2), votes: 15, counted: 15, isWrittenOff: true }]);
    expect(row).toMatchObject({ lost: 0, writtenOff: 5, unexplained: 0 });
  });

  test('is accounted for like any other once it can be read again', () => {
    const back = node({ seqs: { [SOURCE]: 3 }, queued: [3] });
    expect(settleOne([back], [gone])).toMatchObject({ pending: 10, writtenOff: 0 });
    expect(settleOne([node({ seqs: { [SOURCE]: 3 } })], [gone])).toMatchObject({ lost: 10, writtenOff: 0 });
  });
});

describe('a written-off job', () => {
  const writtenOffJobs = [{ seq: 2, reason: 'damaged' }];
  /** Receipts of three jobs, of which the second has no votes. */
  const before = { ...audit(3), votes: 20, counted: 20, writtenOffJobs };
  const after = { ...before, comparedSeq: 3, writtenOffVotes: 10 };
  const reading = node({ seqs: { [SOURCE]: 3 }, failed: [2] });

  test('has the votes that the receipts lack, and is neither failed nor lost', () => {
    for (const audited of [before, after]) {
      const row = settleOne([reading], [audited]);
      expect(row).toMatchObject({
        accepted: 30,
        counted: 20,
        failed: 0,
        lost: 0,
        writtenOff: 10,
        unexplained: 0,
      });
      expect(row.jobs).toMatchObject({ accepted: 3, committed: 2, failed: 0, lost: 0, writtenOff: 1 });
      expect(row).toMatchObject({ failedJobs: [], lostJobs: [], writtenOffJobs });
    }
  });

  test('shares the missing votes with missing jobs until it was compared', () => {
    const readings = [node({ seqs: { [SOURCE]: 5 }, queued: [4] })];
    const missing = { acceptedSeq: 5, acceptedVotes: 50, missingJobs: 2, missing: [4, 5] };
    for (const audited of [before, after]) {
      const row = settleOne(readings, [{ ...audited, ...missing }]);
      expect(row).toMatchObject({ accepted: 50, pending: 10, lost: 10, writtenOff: 10, lostJobs: [5] });
    }
  });

  test('does not hide votes that receipts lack or have beyond it', () => {
    const fewer = settleOne([reading], [{ ...after, votes: 17, counted: 17 }]);
    expect(fewer).toMatchObject({ writtenOff: 10, lost: 3, unexplained: 3 });
    const more = settleOne([reading], [{ ...after, votes: 24, counted: 24 }]);
    expect(more).toMatchObject({ writtenOff: 6, lost: 0, unexplained: -4 });
    for (const row of [fewer, more]) expect(sumOf(row)).toBe(row.accepted);
  });

  test('stays in the failed jobs of its queue without hiding a lost job', () => {
    const seqs = range(4, 300);
    const row = settleOne(
      [node({ seqs: { [SOURCE]: 300 }, failed: [2] })],
      [
        {
          ...before,
          acceptedSeq: 300,
          acceptedVotes: 3_000,
          missingJobs: seqs.length,
          missing: seqs.slice(0, 100),
        },
      ],
    );
    expect(row.jobs).toMatchObject({ failed: 0, lost: 297, writtenOff: 1 });
  });
});

test('names the failed and the lost jobs', () => {
  const row = settleOne(
    [node({ seqs: { [SOURCE]: 5 }, queued: [2], failed: [4] })],
    [audit(1, [2, 3, 4, 5])],
  );
  expect(jobsAtFault([row])).toEqual([4, 3, 5].map((seq) => jobKey(SOURCE, seq)));
});

describe('a source of another node', () => {
  const intruder = node({ name: 'r2', seqs: { [SOURCE]: 9, [ELSEWHERE]: 1 }, source: ELSEWHERE });

  test('is not accounted by the ledger of a node that is not its own', () => {
    expect(
      reconcile({ nodes: [intruder], audits: [], knownBefore: new Set() }).map(({ source }) => source),
    ).toEqual([ELSEWHERE]);
    expect(settleOne([intruder], [audit(2)])).toMatchObject({ accepted: 20, reachable: false });
  });

  test('has no jobs in the queue of a node that is not its own', () => {
    const holding = { ...intruder, jobs: { queued: [`${SOURCE}.3`], failed: [] } };
    const row = settleOne([node({ seqs: { [SOURCE]: 3 } }), holding], [audit(2, [3])]);
    expect(jobsOf(row)).toEqual({ pending: 0, failed: 0, lost: 1 });
  });
});

describe('listing job ids', () => {
  const listed = (nodes: readonly NodeReading[], audits: readonly SourceAudit[]): string[] => [
    ...nodesToList({ nodes, audits }),
  ];

  test('is not needed when nothing is missing and no job has failed', () => {
    expect(listed([node({ seqs: { [SOURCE]: 3 } })], [audit(3)])).toEqual([]);
  });

  test('is needed when jobs have failed: they may be of another node', () => {
    expect(listed([node({ seqs: { [SOURCE]: 3 }, failed: [1] })], [audit(3)])).toEqual(['r1']);
  });

  test('is needed of a node that no longer has a source with missing jobs', () => {
    const other = node({ name: 'r2', seqs: { [ELSEWHERE]: 1 }, source: ELSEWHERE });
    expect(listed([node(), other], [audit(2, [3]), audit(1, [], ELSEWHERE)])).toEqual(['r1']);
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

  test('adds up for fenced, written-off and unexplained sources, reachable or not', () => {
    const parts = fc.record({
      writtenOff: fc.nat(3),
      writtenOffVotes: fc.nat(30),
      fence: fc.option(fc.nat(10)),
      isWrittenOff: fc.boolean(),
      isDown: fc.boolean(),
      difference: fc.integer({ min: -20, max: 20 }),
    });
    fc.assert(
      fc.property(fc.array(placeOfJob, { maxLength: 30 }), parts, (places, parts) => {
        const { nodes, audits, knownBefore } = inputsOf(places, 0);
        const [known, reading] = [audits[0] as SourceAudit, nodes[0] as NodeReading];
        const top = known.jobs + known.missingJobs;
        const votes = Math.max(0, known.votes - parts.difference);
        const audited = {
          ...known,
          votes,
          counted: votes,
          unexplainedVotes: parts.difference,
          writtenOffJobs: range(1, Math.min(parts.writtenOff, known.jobs)).map((seq) => ({
            seq,
            reason: 'x',
          })),
          writtenOffVotes: parts.writtenOffVotes,
          comparedSeq: Math.min(1, known.jobs),
          isWrittenOff: parts.isWrittenOff,
          // A fence is never below the highest number known.
          fencedSeq: parts.fence === null ? null : top,
        };
        const read = parts.isDown ? { ...reading, fault: 'down', jobs: undefined } : reading;
        const [row] = reconcile({ nodes: [read], audits: [audited], knownBefore });
        if (!row) throw new Error('the source has no row');
        expect(sumOf(row)).toBe(row.accepted);
        const { accepted, committed, pending, failed, writtenOff, lost } = row.jobs;
        expect(committed + pending + failed + writtenOff + lost).toBe(accepted);
        expect(
          Math.min(row.pending, row.failed, row.writtenOff, row.lost, pending, failed, lost),
        ).toBeGreaterThanOrEqual(0);
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
