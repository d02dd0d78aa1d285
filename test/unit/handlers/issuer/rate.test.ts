import { expect, test } from 'vitest';
import { createRateLimit } from '#handlers/issuer/rate.ts';

test('an address may ask a number of times in each window, whatever others do', () => {
  let now = 0;
  const isWithinRate = createRateLimit(2, () => now);
  const ask = (address: string) => [1, 2, 3].map(() => isWithinRate(address));
  expect(ask('192.0.2.1')).toEqual([true, true, false]);
  expect(ask('192.0.2.2')).toEqual([true, true, false]);
  now = 9_999;
  expect(isWithinRate('192.0.2.1')).toBe(false);
  now = 10_000;
  expect(ask('192.0.2.1')).toEqual([true, true, false]);
});

test.each([
  ['2001:db8:1:2::1', '2001:db8:1:2:ffff::9', '2001:db8:1:3::1'],
  ['2001:db8::1', '2001:db8:0:0:1::', '2001:db8:0:1::1'],
  ['::ffff:192.0.2.1', '192.0.2.1', '::ffff:192.0.2.2'],
  ['1:2:3:4:5:6:7:8', '1:2:3:4::', '1:2:3:5::'],
])('%s shares the limit of %s, and not that of %s', (address, same, other) => {
  const isWithinRate = createRateLimit(1);
  expect([isWithinRate(address), isWithinRate(same), isWithinRate(other)]).toEqual([true, false, true]);
});

test('a limit of 0 means none', () => {
  const isWithinRate = createRateLimit(0);
  expect(Array.from({ length: 1_000 }, () => isWithinRate('192.0.2.1'))).not.toContain(false);
});
