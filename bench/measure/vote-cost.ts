import type { Usage } from './cpu.ts';
import type { MetricName } from './sample.ts';

const METRIC_OF_PART: Readonly<Record<string, MetricName>> = {
  handler: 'usHandler',
  redis: 'usRedis',
  worker: 'usWorker',
  postgres: 'usPostgres',
};

/** The CPU microseconds a vote, by component and together, and the noise meanwhile. */
export function costPerVote(
  { microsByPart, othersShare }: Usage,
  votes: number,
): Partial<Record<MetricName, number>> {
  const metrics: Partial<Record<MetricName, number>> = { othersPercent: othersShare * 100 };
  let total = 0;
  for (const [part, micros] of Object.entries(microsByPart)) {
    const name = METRIC_OF_PART[part];
    if (name === undefined) throw new TypeError(`no metric for ${part}`);
    metrics[name] = micros / votes;
    total += micros / votes;
  }
  return { ...metrics, usTotal: total };
}
