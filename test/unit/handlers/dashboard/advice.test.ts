import { expect, test } from 'vitest';
import { adviceOf } from '#handlers/dashboard/advice.ts';
import type { LiveReport } from '#handlers/dashboard/live-audit.ts';
import { auditView } from '#handlers/dashboard/view.ts';
import { ELSEWHERE, enrolled, node, OTHER_NODE, SOURCE } from '#kit/audit-fixtures.ts';
import { createApp, KNOWN, NOON } from './dashboard.ts';

const healthy: LiveReport = {
  asOf: NOON,
  reconciledAt: NOON,
  nodes: [node({ seqs: { [SOURCE]: 3 } })],
  rows: [],
  foreign: [],
  enrolled: [enrolled()],
  awaited: new Map(),
  polls: [],
  postgresFault: undefined,
};

const faultsOf = (changes: Partial<LiveReport>): string[] =>
  adviceOf(auditView({ ...healthy, ...changes })).map(({ fault }) => fault);

const other = (changes: Parameters<typeof enrolled>[0] = {}) =>
  enrolled({ id: OTHER_NODE, name: 'frontend02', ...changes });
const full = (used: number) => ({ ...node(), memory: { used, max: 100 } });

test('a healthy system needs nothing', async () => {
  expect(faultsOf({})).toEqual([]);
  const response = await createApp().request('/', { headers: KNOWN });
  expect(await response.text()).not.toContain('What to do');
});

test.each<[string, Partial<LiveReport>, string[]]>([
  ['Postgres is down', { postgresFault: 'refused' }, ['Postgres is down.']],
  ['a node is gone', { enrolled: [enrolled(), other()] }, ['Not reachable: frontend02.']],
  ['a node that is gone was retired', { enrolled: [enrolled(), other({ state: 'retired' })] }, []],
  ['a node that is gone was written off', { enrolled: [enrolled(), other({ state: 'written off' })] }, []],
  [
    'a node has no id',
    { nodes: [node(), { ...node({ name: 'r2', source: ELSEWHERE, id: undefined }), host: undefined }] },
    ['Not enrolled: r2.'],
  ],
  ['memory is full', { nodes: [full(76)] }, ['The memory of Redis is nearly full: frontend01.']],
  ['memory has space', { nodes: [full(75)] }, []],
  [
    'a disk fails',
    { nodes: [{ ...node(), appendOnlyFile: 'failing' }] },
    ['Redis does not write votes to its disk: frontend01.'],
  ],
  [
    'a clock is wrong',
    { enrolled: [enrolled({ clockSkewMs: -1_001 })] },
    ['The clock is wrong: frontend01.'],
  ],
  ['a clock is right', { enrolled: [enrolled({ clockSkewMs: -1_000 })] }, []],
  [
    'no worker reads a node',
    { enrolled: [enrolled({ readAt: NOON - 30_001 })] },
    ['Not read by a worker for over 30 s: frontend01.'],
  ],
  ['a worker reads a node', { enrolled: [enrolled({ readAt: NOON - 30_000 })] }, []],
])('when %s, says so', (_, changes, faults) => {
  expect(faultsOf(changes)).toEqual(faults);
});

test('names five nodes and counts the others', () => {
  const gone = Array.from({ length: 7 }, (_, i) => other({ id: `gone${i}`, name: `n${i}` }));
  expect(faultsOf({ enrolled: [enrolled(), ...gone] })).toEqual([
    'Not reachable: n0, n1, n2, n3, n4 and 2 more.',
  ]);
});

test('lost votes come first on the page, each fault with its action', async () => {
  const view = auditView({ ...healthy, postgresFault: 'refused' });
  const [first, second] = adviceOf({ ...view, total: { ...view.total, lost: 1, failed: 1 } });
  expect(first?.fault).toBe('Accepted votes are lost.');
  expect(second?.fault).toBe('Postgres is down.');
  const response = await createApp({ postgresFault: 'refused' }).request('/', { headers: KNOWN });
  expect(await response.text()).toContain('<li><strong>Postgres is down.</strong> Start it.');
});
