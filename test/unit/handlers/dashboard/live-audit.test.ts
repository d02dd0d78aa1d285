import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { NodeState } from '#audit/queues.ts';
import type { SourceAudit } from '#db/audit.ts';
import { LiveAudit } from '#handlers/dashboard/live-audit.ts';
import { audit, node, SOURCE } from '#kit/audit-fixtures.ts';
import { recordLog } from '#kit/log.ts';

let steps: string[];
let state: NodeState;
let audits: SourceAudit[] | Error;
let ledger: LiveAudit;

beforeEach(() => {
  vi.useFakeTimers();
  steps = [];
  state = node({ seqs: { [SOURCE]: 2 } });
  audits = [audit(2)];
  const queue = {
    name: 'r1',
    read: async (isListed: boolean): Promise<NodeState> => {
      steps.push(isListed ? 'list' : 'count');
      return isListed ? state : { ...state, jobs: undefined };
    },
  };
  ledger = new LiveAudit({
    queues: { all: [queue] },
    audit: async () => {
      steps.push('audit');
      if (audits instanceof Error) throw audits;
      return audits;
    },
    log: recordLog().log,
  });
});
afterEach(() => {
  vi.useRealTimers();
});

describe('the ledger', () => {
  test('is read once for all who ask within 2 s, Postgres last', async () => {
    await Promise.all([ledger.latest(), ledger.latest()]);
    await vi.advanceTimersByTimeAsync(1_999);
    await ledger.latest();
    expect(steps).toEqual(['count', 'audit']);
    await vi.advanceTimersByTimeAsync(1);
    await ledger.latest();
    expect(steps.length).toBe(4);
  });

  test('is read anew at once after something was changed', async () => {
    await ledger.latest();
    ledger.expire();
    await ledger.latest();
    expect(steps).toEqual(['count', 'audit', 'count', 'audit']);
    await ledger.latest();
    expect(steps.length).toBe(4);
  });

  test('lists jobs as soon as the numbers do not add up, and only as long', async () => {
    audits = [audit(1)];
    expect((await ledger.latest()).rows[0]).toMatchObject({ lost: 10, pending: 0 });
    expect(steps).toEqual(['count', 'audit', 'list', 'audit']);

    steps.length = 0;
    await vi.advanceTimersByTimeAsync(2_000);
    audits = [audit(2)];
    expect((await ledger.latest()).rows[0]).toMatchObject({ lost: 0, pending: 0 });
    await vi.advanceTimersByTimeAsync(2_000);
    await ledger.latest();
    expect(steps).toEqual(['list', 'audit', 'count', 'audit']);
  });

  test('stays as it was settled last while Postgres does not answer, and the nodes are new', async () => {
    const settled = await ledger.latest();
    await vi.advanceTimersByTimeAsync(2_000);
    audits = new Error('no connection');
    state = node({ seqs: { [SOURCE]: 5 }, queued: [3, 4, 5] });
    const report = await ledger.latest();
    expect(report).toMatchObject({ settledAt: settled.settledAt, postgresFault: 'no connection' });
    expect(report.rows).toBe(settled.rows);
    expect(report.nodes[0]?.waiting).toBe(3);
  });

  test('waits 5 s at most for Postgres', async () => {
    audits = [];
    const hanging = new LiveAudit({
      queues: { all: [] },
      audit: () => new Promise(() => {}),
      log: recordLog().log,
    });
    const report = hanging.latest();
    await vi.advanceTimersByTimeAsync(5_000);
    expect((await report).postgresFault).toContain('5000 ms');
  });
});
