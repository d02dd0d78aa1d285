import { expect, test } from 'vitest';
import { nodesOf } from '#dev/cluster/topology.ts';
import { StartError } from '#dev/errors.ts';

test('a cluster has a manager first, and every node a name and an address of its own', () => {
  const nodes = nodesOf({ frontends: 100, workers: 50 });
  expect(nodes[0]).toEqual({ name: 'manager', role: 'manager', address: '192.168.33.11' });
  expect(nodes.length).toBe(153);
  expect(new Set(nodes.map(({ name }) => name)).size).toBe(nodes.length);
  expect(new Set(nodes.map(({ address }) => address)).size).toBe(nodes.length);
  for (const { address } of nodes) expect(Number(address.split('.')[3])).toBeLessThan(255);
});

test.each([
  [0, 1],
  [101, 1],
  [1, 0],
  [1, 51],
  [1.5, 1],
  [Number.NaN, 1],
])('%d frontends and %d workers are refused', (frontends, workers) => {
  expect(() => nodesOf({ frontends, workers })).toThrow(StartError);
});
