import { expect, test } from 'vitest';
import { Pace } from '#handlers/results/pace.ts';

const S = 1_000;

test('gives no pace before there are readings of 10 s', () => {
  const pace = new Pace();
  expect(pace.add(0, 100)).toBeNull();
  expect(pace.add(10 * S - 1, 200)).toBeNull();
  expect(pace.add(10 * S, 200)).toBe(10);
});

test('forgets what is older than a minute, so that it follows the crowd', () => {
  const pace = new Pace();
  for (let second = 0; second <= 60; second += 1) pace.add(second * S, second * 1_000);
  for (let second = 61; second < 120; second += 1) pace.add(second * S, 60_000);
  expect(pace.add(120 * S, 60_000)).toBe(0);
});

test('gives no pace after a minute without readers', () => {
  const pace = new Pace();
  pace.add(0, 0);
  pace.add(10 * S, 100);
  expect(pace.add(71 * S, 10_000)).toBeNull();
});

test('keeps a bounded number of readings', () => {
  const pace = new Pace();
  for (let i = 0; i < 1_000; i += 1) pace.add(i * 10, i);
  // 64 readings at 10 ms are less than 10 s.
  expect(pace.add(10_000, 1_000)).toBeNull();
});

test('is never negative', () => {
  const pace = new Pace();
  pace.add(0, 100);
  expect(pace.add(20 * S, 50)).toBe(0);
});
