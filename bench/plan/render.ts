import { formatNumber } from '../report/table.ts';
import { SHARE_WITHIN } from './curve.ts';
import {
  BUSY_SHARE_MAX,
  type Costs,
  DISK_REWRITE_FACTOR,
  FRONTENDS_SPARE_SHARE,
  PAGES_PER_VOTER,
  type Plan,
  REDIS_BUSY_SHARE_MAX,
} from './plan.ts';

const MINUTE = 60;
const HOUR = 60 * MINUTE;

/** The plan for people, with the formulas it comes from. @param basis what the costs were measured with */
export function renderPlan(plan: Plan, costs: Costs, basis: string): string {
  const { curve, frontends, workers, postgres, backlog } = plan;
  const n = (value: number, digits = 0): string => formatNumber(value, digits);
  const percent = (share: number): string => `${n(share * 100)} %`;
  return `${n(curve.voters)} voters, ${percent(SHARE_WITHIN)} of them within ${time(curve.decaySeconds * -Math.log(1 - SHARE_WITHIN))}

Arrivals     rate(t) = peak · e^(-t/${n(curve.decaySeconds)} s), peak = voters ÷ ${n(curve.decaySeconds)} s = ${n(curve.peakPerSecond)} votes/s
A voter      one vote and ${PAGES_PER_VOTER} pages: ${n(costs.usFormVote, 1)} + ${PAGES_PER_VOTER} · ${n(costs.usPage, 1)} = ${n(frontends.voterMicros, 1)} µs of a frontend
Frontends    ${n(frontends.instance.vcpus)} vCPUs · ${percent(BUSY_SHARE_MAX)} ÷ ${n(frontends.voterMicros, 1)} µs, and no more than ${percent(REDIS_BUSY_SHARE_MAX)} of a Redis ÷ ${n(costs.usRedis, 1)} µs:
             ${n(frontends.votersPerSecondEach)} voters/s each; with ${percent(FRONTENDS_SPARE_SHARE)} to spare
             → ${n(frontends.count)} × ${frontends.instance.name}, each Redis ${percent(frontends.redisShare)} busy at the peak;
             set WEB_CONCURRENCY=${frontends.instance.vcpus} VOTE_CPUS=${frontends.instance.vcpus}: the defaults use one processor of each
Counting     ${n(postgres.instance.vcpus)} vCPUs · ${percent(BUSY_SHARE_MAX)} ÷ ${n(costs.usPostgres, 1)} µs = ${n(postgres.votesPerSecond)} votes/s
             → 1 × ${postgres.instance.name} for PostgreSQL, ${n(workers.count)} × ${workers.instance.name} for workers (${n(costs.usWorker, 1)} µs a vote)
Queue        at most ${n(backlog.longest)} votes wait · ${n(costs.redisBytes)} bytes ÷ ${n(frontends.count)} nodes
             → ${n(frontends.redisGigabytesEach, 2)} GB of Redis on each: REDIS_MAXMEMORY=${redisMaxMemory(frontends.redisGigabytesEach)}
Proxies      ${n(frontends.requestsPerSecond)} requests/s at the peak go through them; what one can do is not measured here:
             measure yours, and put as many behind the name
Disk         ${DISK_REWRITE_FACTOR} · all votes · ${n(costs.diskBytes)} bytes ÷ ${n(frontends.count)} nodes, for the file and its rewrite
             → ${n(frontends.diskGigabytesEach, 2)} GB on each
Last vote    ${backlog.longest === 0 ? 'counted as it comes: nothing waits' : `counted ${time(backlog.emptyAfterSeconds)} after the first`}
Price        about $${n(plan.dollarsPerHour, 2)} an hour, without proxies, load balancers, disks and traffic

Costs as measured by ${basis}. On other processors they differ, and that
PostgreSQL gets faster with every vCPU is assumed, not measured: measure there.`;
}

/** Whole gigabytes, one at the least; a handler refuses votes at nine tenths of it. */
function redisMaxMemory(gigabytes: number): string {
  return `${Math.max(1, Math.ceil(gigabytes / 0.9))}gb`;
}

function time(seconds: number): string {
  if (seconds < 2 * MINUTE) return `${formatNumber(seconds, 0)} s`;
  if (seconds < 2 * HOUR) return `${formatNumber(seconds / MINUTE, 1)} minutes`;
  return `${formatNumber(seconds / HOUR, 1)} hours`;
}
