import { MEMORY_SHARE_MAX } from '#handlers/vote/queue.ts';
import { formatNumber } from '../report/table.ts';
import type { MeasuredCosts } from './costs.ts';
import { SHARE_WITHIN } from './curve.ts';
import {
  BUSY_SHARE_MAX,
  DISK_REWRITE_FACTOR,
  FRONTENDS_SPARE_SHARE,
  PAGES_PER_VOTER,
  type Plan,
  REDIS_BUSY_SHARE_MAX,
} from './plan.ts';

const MINUTE = 60;
const HOUR = 60 * MINUTE;

/** Returns a plan as text, with its formulas and the origin of its costs. */
export function renderPlan(plan: Plan, { costs, ...measured }: MeasuredCosts): string {
  const { curve, frontends, workers, postgres, backlog } = plan;
  const n = (value: number, digits = 0): string => formatNumber(value, digits);
  const percent = (share: number): string => `${n(share * 100)} %`;
  const { processors, cpu } = measured.machine;
  return `${n(curve.voters)} voters, ${percent(SHARE_WITHIN)} of them within ${time(curve.decaySeconds * -Math.log(1 - SHARE_WITHIN))}

Arrivals     rate(t) = peak · e^(-t/${n(curve.decaySeconds)} s), peak = voters ÷ ${n(curve.decaySeconds)} s = ${n(curve.peakPerSecond)} votes/s
Voter        one vote and ${PAGES_PER_VOTER} page views: ${n(costs.usFormVote, 1)} + ${PAGES_PER_VOTER} · ${n(costs.usPage, 1)} = ${n(frontends.usVoter, 1)} µs of a frontend
Frontends    ${n(frontends.instance.vcpus)} vCPUs · ${percent(BUSY_SHARE_MAX)} ÷ ${n(frontends.usVoter, 1)} µs, at most ${percent(REDIS_BUSY_SHARE_MAX)} of one Redis ÷ ${n(costs.usRedis, 1)} µs:
             ${n(frontends.votersPerSecondEach)} voters/s each, plus ${percent(FRONTENDS_SPARE_SHARE)} spare
             → ${n(frontends.count)} × ${frontends.instance.name}, each Redis ${percent(frontends.redisShare)} busy at the peak;
             set WEB_CONCURRENCY=${frontends.instance.vcpus} VOTE_CPUS=${frontends.instance.vcpus}: the defaults use one processor of each
Drain        ${n(postgres.instance.vcpus)} vCPUs · ${percent(BUSY_SHARE_MAX)} ÷ ${n(costs.usPostgres, 1)} µs = ${n(postgres.votesPerSecond)} votes/s
             → 1 × ${postgres.instance.name} for PostgreSQL, ${n(workers.count)} × ${workers.instance.name} for workers (${n(costs.usWorker, 1)} µs per vote)
Backlog      at most ${n(backlog.votesMax)} waiting votes · ${n(costs.redisBytes)} bytes ÷ ${n(frontends.count)} nodes
             → ${n(frontends.redisGigabytesEach, 2)} GB of Redis on each: REDIS_MAXMEMORY=${redisMaxMemory(frontends.redisGigabytesEach)}
Disk         ${DISK_REWRITE_FACTOR} · all votes · ${n(costs.diskBytes)} bytes ÷ ${n(frontends.count)} nodes, for the append-only file and its rewrite
             → ${n(frontends.diskGigabytesEach, 2)} GB on each
Proxies      ${n(frontends.requestsPerSecond)} requests/s at the peak; the capacity of a proxy is not measured here:
             measure yours and run as many as needed behind one DNS name
Last vote    ${backlog.votesMax === 0 ? 'counted on arrival: there is no backlog' : `counted ${time(backlog.emptyAfterSeconds)} after the first`}
Price        about $${n(plan.dollarsPerHour, 2)} per hour, without proxies, load balancers, disks and traffic

Costs: ${measured.source}
       commit ${measured.commit}, ${measured.startedAt.slice(0, 10)}, ${processors} × ${cpu}
They differ on other processors. That PostgreSQL's rate grows linearly with its vCPUs is an assumption: measure it.`;
}

/** Returns whole gigabytes, at least one; above `MEMORY_SHARE_MAX` of them, a handler refuses votes. */
function redisMaxMemory(gigabytes: number): string {
  return `${Math.max(1, Math.ceil(gigabytes / MEMORY_SHARE_MAX))}gb`;
}

function time(seconds: number): string {
  if (seconds < 2 * MINUTE) return `${formatNumber(seconds, 0)} s`;
  if (seconds < 2 * HOUR) return `${formatNumber(seconds / MINUTE, 1)} minutes`;
  return `${formatNumber(seconds / HOUR, 1)} hours`;
}
