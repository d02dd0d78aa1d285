import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { NodeState } from '#audit/queues.ts';
import type { SourceAudit } from '#db/audit.ts';
import { LiveAudit } from '#handlers/dashboard/live-audit.ts';
import { audit, ELSEWHERE, enrolled, node, SOURCE } from '#kit/audit-fixtures.ts';
import { recordLog } from '#kit/log.ts';

let steps: string[];
let state: NodeState;
let audits: SourceAudit[] | Error;
let live: LiveAudit;

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
  live = new LiveAudit({
    queues: { all: [queue] },
    readDatabase: async () => {
      steps.push('audit');
      if (audits instanceof Error) throw audits;
      return { audits, enrolled: [enrolled()], awaited: new Map(), polls: [] };
    },
    log: recordLog().log,
  });
});
afterEach(() => {
  vi.useRealTimers();
});

describe('the live audit', () => {
  test('reads once for all calls within 2 s, Postgres last', async () => {
    await Promise.all([live.latest(), live.latest()]);
    await vi.advanceTimersByTimeAsync(1_999);
    await live.latest();
    expect(steps).toEqual(['count', 'audit']);
    await vi.advanceTimersByTimeAsync(1);
    await live.latest();
    expect(steps.length).toBe(4);
  });

  test('reads again at once after it expires', async () => {
    await live.latest();
    live.expire();
    await live.latest();
    expect(steps).toEqual(['count', 'audit', 'count', 'audit']);
    await live.latest();
    expect(steps.length).toBe(4);
  });

  test('lists job ids only while numbers are missing', async () => {
    audits = [audit(1)];
    expect((await live.latest()).rows[0]).toMatchObject({ lost: 10, pending: 0 });
    expect(steps).toEqual(['count', 'audit', 'list', 'audit']);

    steps.length = 0;
    await vi.advanceTimersByTimeAsync(2_000);
    audits = [audit(2)];
    expect((await live.latest()).rows[0]).toMatchObject({ lost: 0, pending: 0 });
    await vi.advanceTimersByTimeAsync(2_000);
    await live.latest();
    expect(steps).toEqual(['list', 'audit', 'count', 'audit']);
  });

  test('finds sources of other nodes', async () => {
    state = node({ seqs: { [SOURCE]: 2, [ELSEWHERE]: 3 } });
    expect((await live.latest()).foreign).toEqual([
      { source: ELSEWHERE, address: 'r1', isInLedger: true, jobs: 0 },
    ]);
  });

  test('keeps the last accounts but fresh nodes while Postgres is down', async () => {
    const settled = await live.latest();
    await vi.advanceTimersByTimeAsync(2_000);
    audits = new Error('no connection');
    state = node({ seqs: { [SOURCE]: 5 }, queued: [3, 4, 5] });
    const report = await live.latest();
    expect(report).toMatchObject({ reconciledAt: settled.reconciledAt, postgresFault: 'no connection' });
    expect(report.rows).toBe(settled.rows);
    expect(report.enrolled).toEqual([enrolled()]);
    expect(report.nodes[0]?.waiting).toBe(3);
  });

  test('waits at most 5 s for Postgres', async () => {
    audits = [];
    const hanging = new LiveAudit({
      queues: { all: [] },
      readDatabase: () => new Promise(() => {}),
      log: recordLog().log,
    });
    const report = hanging.latest();
    await vi.advanceTimersByTimeAsync(5_000);
    expect((await report).postgresFault).toContain('5000 ms');
  });
});
