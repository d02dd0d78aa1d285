import { describe, expect, test } from 'vitest';
import { findForeign, type NodeReading, readIds } from '#audit/ownership.ts';
import type { SourceAudit } from '#db/audit.ts';
import { audit, ELSEWHERE, NODE, node, OTHER_NODE, SOURCE } from '#kit/audit-fixtures.ts';

const foreign = (reading: NodeReading, audits: readonly SourceAudit[] = []) =>
  findForeign({ nodes: [reading], audits });

describe('a foreign source', () => {
  test('is one in the ledger of a node with another id, or without one', () => {
    const found = [{ source: ELSEWHERE, address: 'r1', isInLedger: true, jobs: 0 }];
    expect(foreign(node({ seqs: { [SOURCE]: 1, [ELSEWHERE]: 5 } }))).toEqual(found);
    expect(foreign(node({ id: undefined, seqs: { [ELSEWHERE]: 5 } }))).toEqual(found);
  });

  test('is one with jobs in the queue of a node with another id', () => {
    const jobs = { queued: [`${SOURCE}.1`, `${ELSEWHERE}.3`, 'not a job'], failed: [`${ELSEWHERE}.4`] };
    expect(foreign({ ...node({ seqs: { [SOURCE]: 1 } }), jobs })).toEqual([
      { source: ELSEWHERE, address: 'r1', isInLedger: false, jobs: 2 },
    ]);
  });

  test('is none that was fenced on this Redis before it was enrolled anew', () => {
    const reading = node({ id: OTHER_NODE, seqs: { [SOURCE]: 3 }, queued: [3], fenced: [SOURCE] });
    expect(foreign(reading)).toEqual([]);
  });

  test('is none with jobs above its fence only, which workers discard', () => {
    const reading = node({ id: OTHER_NODE, queued: [4] });
    expect(foreign(reading, [{ ...audit(3), fencedSeq: 3 }])).toEqual([]);
    expect(foreign(reading, [{ ...audit(3), fencedSeq: 4 }])).toMatchObject([{ source: SOURCE, jobs: 1 }]);
  });

  test('is none on a node that cannot be read now', () => {
    expect(foreign(node({ fault: 'gone', seqs: { [ELSEWHERE]: 5 } }))).toEqual([]);
  });
});

test('the nodes read are those that respond and those being retired, which have no id any more', () => {
  const nodes = [
    node({ seqs: { [SOURCE]: 1 } }),
    node({ id: undefined, seqs: { [ELSEWHERE]: 1 }, fenced: [ELSEWHERE] }),
    node({ id: 'ccccccccccccc', fault: 'not connected' }),
    node({ id: undefined, seqs: { 'frontend04-ddddddddddddd.t0-1': 1 } }),
  ];
  expect(readIds(nodes)).toEqual(new Set([NODE, OTHER_NODE]));
});
