import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { SourceAccount } from '#audit/reconcile.ts';
import { ROOT } from '#dev/root.ts';
import type { LiveReport } from '#handlers/dashboard/live-audit.ts';
import { auditView } from '#handlers/dashboard/view.ts';
import { node } from '#kit/audit-fixtures.ts';

const PROGRAM = join(ROOT, 'aws/measure.jq');
type History = Record<string, [number, number][]>;
interface Measures {
  readonly history: History;
  readonly metrics: { MetricName: string; Value: number; Unit: string; Dimensions: unknown }[];
}

function row(node: string, outcomes: Partial<SourceAccount>): SourceAccount {
  return {
    source: `${node}.x`,
    node,
    name: node,
    reachable: true,
    retired: false,
    accepted: 0,
    counted: 0,
    changed: 0,
    superseded: 0,
    rejected: 0,
    pending: 0,
    failed: 0,
    writtenOff: 0,
    lost: 0,
    unexplained: 0,
    jobs: { accepted: 0, committed: 0, pending: 0, failed: 0, writtenOff: 0, lost: 0, discarded: 0 },
    lostJobs: [],
    failedJobs: [],
    writtenOffJobs: [],
    ...outcomes,
  };
}

/** Output of measure.jq for the dashboard's JSON. */
function measure(
  now: number,
  history: History,
  rows: readonly SourceAccount[],
  nodes: LiveReport['nodes'] = [],
) {
  const ledger = auditView({
    asOf: 0,
    reconciledAt: 0,
    postgresFault: undefined,
    rows,
    foreign: [],
    enrolled: [],
    awaited: new Map(),
    polls: [],
    nodes,
  });
  const { status, stdout, stderr, error } = spawnSync(
    'jq',
    [
      '--from-file',
      PROGRAM,
      '--argjson',
      'last',
      JSON.stringify([history]),
      '--arg',
      'stack',
      'turnout',
      '--argjson',
      'now',
      `${now}`,
    ],
    { input: JSON.stringify(ledger), encoding: 'utf8' },
  );
  if (error) throw new Error("jq is missing; it is one of Debian's packages", { cause: error });
  expect(stderr).toBe('');
  expect(status).toBe(0);
  return JSON.parse(stdout) as Measures;
}

const measureOf = ({ metrics }: Measures, name: string): number | undefined =>
  metrics.find(({ MetricName }) => MetricName === name)?.Value;

describe('measure.jq', () => {
  test('sums lost, failed, pending and accepted votes over all nodes', () => {
    const measures = measure(60, {}, [
      row('a', { accepted: 100, counted: 80, pending: 15, failed: 3, lost: 2 }),
      row('b', { accepted: 10, counted: 9, pending: 1 }),
    ]);
    expect(measures.metrics.map(({ MetricName, Value }) => [MetricName, Value])).toEqual([
      ['QueueAge', 0],
      ['Lost', 2],
      ['Failed', 3],
      ['Pending', 16],
      ['Accepted', 110],
      ['UnreachableQueues', 0],
    ]);
    for (const { Dimensions } of measures.metrics)
      expect(Dimensions).toEqual([{ Name: 'Stack', Value: 'turnout' }]);
  });

  test('computes the age of the oldest pending vote from the history of accepted votes', () => {
    let { history } = measure(0, {}, [row('a', { accepted: 100, counted: 100 })]);
    ({ history } = measure(60, history, [row('a', { accepted: 200, counted: 100, pending: 100 })]));
    ({ history } = measure(120, history, [row('a', { accepted: 300, counted: 100, pending: 200 })]));
    // 210 are counted: the oldest pending vote was accepted after second 60, when 200 were accepted.
    const measures = measure(180, history, [row('a', { accepted: 300, counted: 210, pending: 90 })]);
    expect(measureOf(measures, 'QueueAge')).toBe(120);
    expect(measures.history).toEqual({
      a: [
        [60, 200],
        [120, 300],
        [180, 300],
      ],
    });
    expect(
      measureOf(measure(240, measures.history, [row('a', { accepted: 300, counted: 300 })]), 'QueueAge'),
    ).toBe(0);
  });

  test('finds the age of a stalled node while others progress', () => {
    let history: History = {};
    let measures: Measures | undefined;
    for (const minute of [0, 1, 2, 3, 4, 5]) {
      const moving = 1_000 * minute;
      measures = measure(60 * minute, history, [
        row('still', { accepted: 10, pending: 10 }),
        row('moving', { accepted: moving, counted: moving }),
      ]);
      ({ history } = measures);
    }
    expect(measureOf(measures as Measures, 'QueueAge')).toBe(300);
  });

  test('keeps only the history it needs', () => {
    let history: History = {};
    for (let minute = 0; minute < 20; minute++) {
      ({ history } = measure(60 * minute, history, [row('a', { accepted: minute, counted: minute })]));
    }
    expect(history['a']).toHaveLength(1);
    expect(measure(9_999, history, [row('b', {})]).history).not.toHaveProperty('a');
  });

  test('counts unreachable queues', () => {
    const state = node({ name: '10.0.0.1:6379', fault: 'gone' });
    expect(measureOf(measure(0, {}, [], [state]), 'UnreachableQueues')).toBe(1);
  });
});
