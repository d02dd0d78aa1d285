import type { Sample } from '#bench/measure/sample.ts';
import type { Result } from '#bench/report/result.ts';

/** Returns a result with these samples. */
export function resultOf(samples: readonly Sample[]): Result {
  return {
    startedAt: '2026-11-23T00:00:00.000Z',
    seconds: 60,
    commit: 'abc1234567',
    isDirty: true,
    arguments: [],
    machine: { cpu: '<AMD>', processors: 2, memoryGigabytes: 24, kernel: '6', architecture: 'x64' },
    versions: { node: '26' },
    samples,
  };
}
