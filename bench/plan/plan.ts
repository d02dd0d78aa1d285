import { LANES } from '#workers/committer.ts';
import { type Backlog, backlogOf, type Curve, curveOf } from './curve.ts';
import { FRONTEND_INSTANCES, type Instance, POSTGRES_INSTANCES, WORKER_INSTANCE } from './instances.ts';

/** Measured costs per vote; `us…` are CPU microseconds. */
export interface Costs {
  /** A vote from the browser's form, handler and Redis. */
  readonly usFormVote: number;
  /** A view of the poll's page, handler only. */
  readonly usPage: number;
  /** Redis only, enqueue and dequeue. */
  readonly usRedis: number;
  readonly usWorker: number;
  readonly usPostgres: number;
  readonly redisBytes: number;
  /** The append-only file before its rewrite. */
  readonly diskBytes: number;
}

/** A number of machines of one type. */
interface Machines {
  readonly count: number;
  readonly instance: Instance;
}

export interface Plan {
  readonly curve: Curve;
  readonly frontends: Machines & {
    readonly usVoter: number;
    readonly votersPerSecondEach: number;
    readonly redisShare: number;
    /** Page views and votes, over all frontends. */
    readonly requestsPerSecond: number;
    readonly redisGigabytesEach: number;
    readonly diskGigabytesEach: number;
  };
  readonly workers: Machines;
  readonly postgres: Machines & { readonly votesPerSecond: number };
  readonly backlog: Backlog;
  readonly dollarsPerHour: number;
}

/** Page views of a voter: the question, and the confirmation. */
export const PAGES_PER_VOTER = 2;
/** Planned CPU utilization at the peak; the rest is headroom. */
export const BUSY_SHARE_MAX = 0.6;
/** Of the one processor that a Redis runs on. */
export const REDIS_BUSY_SHARE_MAX = 0.6;
/** The rest is for the system, the handlers and the fork that rewrites Redis's append-only file. */
const QUEUE_MEMORY_SHARE_MAX = 0.4;
/** Redis rewrites its append-only file when its size has doubled. */
export const DISK_REWRITE_FACTOR = 2;
/** Above this number, a larger machine type is chosen, if there is one. */
const FRONTENDS_PREFERRED_MAX = 20;
/** Frontends that may fail at the peak. */
export const FRONTENDS_SPARE_SHARE = 0.1;
const FRONTENDS_MIN = 2;
const WORKERS_MIN = 2;
const MICROS_PER_SECOND = 1e6;
const BYTES_PER_GIGABYTE = 1e9;

/**
 * Returns the machines that a crowd needs.
 *
 * frontends  = peak ÷ (vCPUs · busy share ÷ (vote + pages)), or more where one Redis or a node's memory is the limit
 * drain rate = PostgreSQL vCPUs · busy share ÷ µs of PostgreSQL per vote, with workers that keep these vCPUs busy
 * backlog    = arrivals in excess of the drain rate, see `backlogOf`
 *
 * @param voters each votes once
 * @param seconds in which `SHARE_WITHIN` of them arrive
 * @param frontendInstance default: the smallest type of which at most `FRONTENDS_PREFERRED_MAX` are needed
 */
export function planFor(voters: number, seconds: number, costs: Costs, frontendInstance?: Instance): Plan {
  const curve = curveOf(voters, seconds);
  const postgres = postgresFor(curve, costs);
  const backlog = backlogOf(curve, postgres.votesPerSecond);
  const types = frontendInstance ? [frontendInstance] : FRONTEND_INSTANCES;
  const plans = types.map((instance) => frontendsFor(curve, backlog, costs, instance));
  const frontends = (plans.find(({ count }) => count <= FRONTENDS_PREFERRED_MAX) ??
    plans.at(-1)) as Plan['frontends'];
  const workers = workersFor(postgres, costs);
  return {
    curve,
    frontends,
    workers,
    postgres,
    backlog,
    dollarsPerHour: [frontends, workers, postgres].reduce(
      (sum, { count, instance }) => sum + count * instance.dollarsPerHour,
      0,
    ),
  };
}

/** Chooses the smallest PostgreSQL that drains as fast as the crowd arrives, or the largest type. */
function postgresFor({ peakPerSecond }: Curve, { usPostgres }: Costs) {
  const rateOf = ({ vcpus }: Instance): number => (vcpus * BUSY_SHARE_MAX * MICROS_PER_SECOND) / usPostgres;
  const instance = (POSTGRES_INSTANCES.find((one) => rateOf(one) >= peakPerSecond) ??
    POSTGRES_INSTANCES.at(-1)) as Instance;
  return { count: 1, instance, votesPerSecond: rateOf(instance) };
}

/** Enough CPU for the workers' own work, and one database connection for each busy vCPU of PostgreSQL. */
function workersFor({ instance, votesPerSecond }: Plan['postgres'], { usWorker }: Costs): Machines {
  const byCpu = (votesPerSecond * usWorker) / (WORKER_INSTANCE.vcpus * BUSY_SHARE_MAX * MICROS_PER_SECOND);
  const byLanes = (instance.vcpus * BUSY_SHARE_MAX) / LANES;
  return { count: Math.max(WORKERS_MIN, Math.ceil(byCpu), Math.ceil(byLanes)), instance: WORKER_INSTANCE };
}

function frontendsFor(
  { voters, peakPerSecond }: Curve,
  { votesMax }: Backlog,
  costs: Costs,
  instance: Instance,
): Plan['frontends'] {
  const usVoter = costs.usFormVote + PAGES_PER_VOTER * costs.usPage;
  const byCpu = (instance.vcpus * BUSY_SHARE_MAX * MICROS_PER_SECOND) / usVoter;
  const byRedis = (REDIS_BUSY_SHARE_MAX * MICROS_PER_SECOND) / costs.usRedis;
  const votersPerSecondEach = Math.min(byCpu, byRedis);
  const queueGigabytes = (votesMax * costs.redisBytes) / BYTES_PER_GIGABYTE;
  const needed = Math.max(
    peakPerSecond / votersPerSecondEach,
    queueGigabytes / (instance.memoryGigabytes * QUEUE_MEMORY_SHARE_MAX),
  );
  const count = Math.max(FRONTENDS_MIN, Math.ceil(needed * (1 + FRONTENDS_SPARE_SHARE)));
  return {
    count,
    instance,
    usVoter,
    votersPerSecondEach,
    requestsPerSecond: peakPerSecond * (1 + PAGES_PER_VOTER),
    redisShare: ((peakPerSecond / count) * costs.usRedis) / MICROS_PER_SECOND,
    redisGigabytesEach: queueGigabytes / count,
    diskGigabytesEach: (DISK_REWRITE_FACTOR * voters * costs.diskBytes) / count / BYTES_PER_GIGABYTE,
  };
}
