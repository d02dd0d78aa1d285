import type { Usage } from './proc.ts';
import type { MetricName } from './sample.ts';

const METRIC_OF_PART: Readonly<Record<string, MetricName>> = {
  proxy: 'usProxy',
  handler: 'usHandler',
  redis: 'usRedis',
  worker: 'usWorker',
  postgres: 'usPostgres',
};

/** Returns the CPU microseconds per vote, by part and in total, and the noise. */
export function costPerVote(
  { microsByPart, othersShare, stealShare }: Usage,
  votes: number,
): Partial<Record<MetricName, number>> {
  const metrics: Partial<Record<MetricName, number>> = {
    othersPercent: othersShare * 100,
    stealPercent: stealShare * 100,
  };
  let total = 0;
  for (const [part, micros] of Object.entries(microsByPart)) {
    const name = METRIC_OF_PART[part];
    if (name === undefined) throw new TypeError(`no metric for the part ${part}`);
    metrics[name] = micros / votes;
    total += micros / votes;
  }
  return { ...metrics, usTotal: total };
}
