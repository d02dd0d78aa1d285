import { expect, test } from 'vitest';
import { RateLimit } from '#handlers/web/rate.ts';

const WINDOW_MS = 10_000;

test('an address may ask a number of times in each window, whatever others do', () => {
  let now = 0;
  const limit = new RateLimit({ perWindowMax: 2, windowMs: WINDOW_MS, now: () => now });
  const ask = (address: string) => [1, 2, 3].map(() => limit.count(address));
  expect(ask('192.0.2.1')).toEqual([true, true, false]);
  expect(ask('192.0.2.2')).toEqual([true, true, false]);
  now = 9_999;
  expect(limit.count('192.0.2.1')).toBe(false);
  now = 10_000;
  expect(ask('192.0.2.1')).toEqual([true, true, false]);
});

test.each([
  ['2001:db8:1:2::1', '2001:db8:1:2:ffff::9', '2001:db8:1:3::1'],
  ['2001:db8::1', '2001:db8:0:0:1::', '2001:db8:0:1::1'],
  ['::ffff:192.0.2.1', '192.0.2.1', '::ffff:192.0.2.2'],
  ['1:2:3:4:5:6:7:8', '1:2:3:4::', '1:2:3:5::'],
])('%s shares the limit of %s, and not that of %s', (address, same, other) => {
  const limit = new RateLimit({ perWindowMax: 1, windowMs: WINDOW_MS });
  expect([limit.count(address), limit.count(same), limit.count(other)]).toEqual([true, false, true]);
});

test('a limit of 0 means none', () => {
  const limit = new RateLimit({ perWindowMax: 0, windowMs: WINDOW_MS });
  expect(Array.from({ length: 1_000 }, () => limit.count('192.0.2.1'))).not.toContain(false);
});

test('asking whether the limit is reached counts nothing', () => {
  const limit = new RateLimit({ perWindowMax: 1, windowMs: WINDOW_MS });
  expect([limit.isReached('192.0.2.1'), limit.isReached('192.0.2.1')]).toEqual([false, false]);
  limit.count('192.0.2.1');
  expect(limit.isReached('192.0.2.1')).toBe(true);
});
