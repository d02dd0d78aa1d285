import { LANES } from '#workers/committer.ts';
import { type Backlog, backlogOf, type Curve, curveOf } from './curve.ts';
import { FRONTEND_INSTANCES, type Instance, POSTGRES_INSTANCES, WORKER_INSTANCE } from './instances.ts';

/** What the plan stands on; all measured, per vote. CPU in microseconds. */
export interface Costs {
  /** A vote from a browser's form, handler and Redis. */
  readonly usFormVote: number;
  /** The poll's page, handler alone. */
  readonly usPage: number;
  /** Redis alone, in and out. */
  readonly usRedis: number;
  readonly usWorker: number;
  readonly usPostgres: number;
  readonly redisBytes: number;
  /** The append-only file before it is rewritten. */
  readonly diskBytes: number;
}

/** A number of machines of a kind. */
interface Machines {
  readonly count: number;
  readonly instance: Instance;
}

export interface Plan {
  readonly curve: Curve;
  readonly frontends: Machines & {
    readonly voterMicros: number;
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

/** Page views of a voter: one to see the question, one to see that the vote has arrived. */
export const PAGES_PER_VOTER = 2;
/** Processors are planned to be this busy at the peak; the rest is for what nobody foresaw. */
export const BUSY_SHARE_MAX = 0.6;
/** A Redis runs on one processor. */
export const REDIS_BUSY_SHARE_MAX = 0.6;
/** What a node keeps for the system, the handlers and the copy that Redis makes when it rewrites its file. */
const MEMORY_SHARE_FOR_QUEUE = 0.4;
/** Redis rewrites its append-only file when it has doubled. */
export const DISK_REWRITE_FACTOR = 2;
/** More machines than this of one kind are a burden; then larger ones are taken, if there are any. */
const FRONTENDS_WIELDY = 20;
/** Spare frontends: so many may die at the peak. */
export const FRONTENDS_SPARE_SHARE = 0.1;
const FRONTENDS_MIN = 2;
const WORKERS_MIN = 2;
const MICROS_PER_SECOND = 1e6;
const BYTES_PER_GIGABYTE = 1e9;

/**
 * Plans for a crowd.
 *
 * frontends = peak ÷ (vCPUs · busy share ÷ (vote + pages)), or more if one Redis, or one node's memory, would not do
 * pace      = Postgres vCPUs · busy share ÷ µs of Postgres a vote; workers with as many lanes as it has vCPUs to spare
 * queue     = what the crowd brings in excess of the pace, see `backlogOf`
 *
 * @param voters how many come; each votes once
 * @param seconds in which most of them come
 * @param frontendInstance the kind of frontend; if it is left out the smallest of which not too many are needed
 */
export function planFor(voters: number, seconds: number, costs: Costs, frontendInstance?: Instance): Plan {
  const curve = curveOf(voters, seconds);
  const postgres = postgresFor(curve, costs);
  const backlog = backlogOf(curve, postgres.votesPerSecond);
  const kinds = frontendInstance ? [frontendInstance] : FRONTEND_INSTANCES;
  const plans = kinds.map((instance) => frontendsFor(curve, backlog, costs, instance));
  const frontends = (plans.find(({ count }) => count <= FRONTENDS_WIELDY) ??
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

/** One Postgres: the smallest that counts as fast as the crowd comes, or the largest there is. */
function postgresFor({ peakPerSecond }: Curve, { usPostgres }: Costs) {
  const paceOf = ({ vcpus }: Instance): number => (vcpus * BUSY_SHARE_MAX * MICROS_PER_SECOND) / usPostgres;
  const instance = (POSTGRES_INSTANCES.find((one) => paceOf(one) >= peakPerSecond) ??
    POSTGRES_INSTANCES.at(-1)) as Instance;
  return { count: 1, instance, votesPerSecond: paceOf(instance) };
}

/** Enough processors for their own work, and enough connections to keep those of Postgres busy: one each. */
function workersFor({ instance, votesPerSecond }: Plan['postgres'], { usWorker }: Costs): Machines {
  const byCpu = (votesPerSecond * usWorker) / (WORKER_INSTANCE.vcpus * BUSY_SHARE_MAX * MICROS_PER_SECOND);
  const byLanes = (instance.vcpus * BUSY_SHARE_MAX) / LANES;
  return { count: Math.max(WORKERS_MIN, Math.ceil(byCpu), Math.ceil(byLanes)), instance: WORKER_INSTANCE };
}

function frontendsFor(
  { voters, peakPerSecond }: Curve,
  { longest }: Backlog,
  costs: Costs,
  instance: Instance,
): Plan['frontends'] {
  const voterMicros = costs.usFormVote + PAGES_PER_VOTER * costs.usPage;
  const byCpu = (instance.vcpus * BUSY_SHARE_MAX * MICROS_PER_SECOND) / voterMicros;
  const byRedis = (REDIS_BUSY_SHARE_MAX * MICROS_PER_SECOND) / costs.usRedis;
  const votersPerSecondEach = Math.min(byCpu, byRedis);
  const queueGigabytes = (longest * costs.redisBytes) / BYTES_PER_GIGABYTE;
  const needed = Math.max(
    peakPerSecond / votersPerSecondEach,
    queueGigabytes / (instance.memoryGigabytes * MEMORY_SHARE_FOR_QUEUE),
  );
  const count = Math.max(FRONTENDS_MIN, Math.ceil(needed * (1 + FRONTENDS_SPARE_SHARE)));
  return {
    count,
    instance,
    voterMicros,
    votersPerSecondEach,
    requestsPerSecond: peakPerSecond * (1 + PAGES_PER_VOTER),
    redisShare: ((peakPerSecond / count) * costs.usRedis) / MICROS_PER_SECOND,
    redisGigabytesEach: queueGigabytes / count,
    diskGigabytesEach: (DISK_REWRITE_FACTOR * voters * costs.diskBytes) / count / BYTES_PER_GIGABYTE,
  };
}
