import { expect, test } from 'vitest';
import { nodesOf } from '#dev/cluster/topology.ts';

test('lists the manager first, and gives every node its own name and address', () => {
  const nodes = nodesOf({ frontends: 100, workers: 50 });
  expect(nodes[0]).toEqual({ name: 'manager', role: 'manager', address: '192.168.33.11' });
  expect(nodes.length).toBe(153);
  expect(new Set(nodes.map(({ name }) => name)).size).toBe(nodes.length);
  expect(new Set(nodes.map(({ address }) => address)).size).toBe(nodes.length);
  for (const { address } of nodes) expect(Number(address.split('.')[3])).toBeLessThan(255);
});
