import { expect, test } from 'vitest';
import { cast } from '../../../../stack/lab/cast.ts';
import { StartError } from '../../../../stack/local/errors.ts';

test('a lab has a manager first, and every node a name and an address of its own', () => {
  const nodes = cast({ frontends: 100, workers: 50 });
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
  expect(() => cast({ frontends, workers })).toThrow(StartError);
});
