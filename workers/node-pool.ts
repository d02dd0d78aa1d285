import type { ReceivedBatch } from '#job';
import { withDeadline } from '#runtime/deadline.ts';
import type { Discover } from '#runtime/discovery.ts';
import type { Log } from '#runtime/log.ts';
import type { RedisAddress } from '#runtime/redis.ts';
import { SHUTDOWN_MS_MAX } from '#runtime/shutdown.ts';
import type { NodeRegistry } from './node-registry.ts';
import { type NodeReport, type NodeTimings, NodeWorker } from './node-worker.ts';

/** Longest wait of a stopping worker for its active jobs. */
export const DRAIN_STOP_MS_MAX = 15_000;
/** Longest wait for the active jobs of a node that was removed. */
const REMOVAL_MS_MAX = 10_000;
const DISCOVERY_MS_MAX = 5_000;
/** Active jobs over all nodes, which bounds the memory of a worker: 50 MB of votes in the largest jobs. */
const ACTIVE_JOBS_MAX = 512;
/** A commit may be delayed for 200 ms; a node adds at most one job per write meanwhile. */
const JOBS_PER_NODE_MIN = 4;
const JOBS_PER_NODE_MAX = 32;

if (DRAIN_STOP_MS_MAX >= SHUTDOWN_MS_MAX) {
  throw new RangeError(
    'active jobs must finish before the process exits: DRAIN_STOP_MS_MAX < SHUTDOWN_MS_MAX',
  );
}

const TIMINGS: PoolTimings = {
  roundIntervalMs: 2_000,
  probeMsMax: 2_000,
  stalledCheckIntervalMs: 5_000,
  versionDelayMs: 30_000,
};

/** Intervals and deadlines, which tests shorten. */
interface PoolTimings extends NodeTimings {
  readonly roundIntervalMs: number;
}

export interface NodePoolOptions {
  readonly discover: Discover;
  /** Commits a job, see `Committer.submit`. */
  readonly submit: (batch: ReceivedBatch) => Promise<void>;
  /** Called for each job whose source belongs to another node. */
  readonly onForeignJob: () => void;
  /** Called for each job whose worker lost its lock. */
  readonly onStalledJob?: () => void;
  readonly log: Log;
  readonly timings?: PoolTimings;
}

/** Whether a node answered its last probe, and what it last answered; `undefined` before the first answer. */
export interface NodeState {
  readonly isUp: boolean;
  readonly report: NodeReport | undefined;
}

interface Member {
  readonly worker: NodeWorker;
  isUp: boolean;
  report: NodeReport | undefined;
  /** The running probe. */
  probe: Promise<void> | undefined;
}

/**
 * Drains the queues of all nodes. Every round discovers the nodes, starts a node worker for each new one, stops those of
 * nodes that are gone, and probes the rest; a probe that takes longer than a round delays no other node. An unreachable node
 * stays in the pool, so its votes are counted when it returns.
 */
export class NodePool {
  readonly #options: NodePoolOptions;
  readonly #members = new Map<string, Member>();
  #timer: NodeJS.Timeout | undefined;
  #round: Promise<void> = Promise.resolve();
  #isStopped = false;

  constructor(options: NodePoolOptions) {
    this.#options = options;
  }

  get nodes(): ReadonlyMap<string, NodeState> {
    return new Map([...this.#members].map(([name, { isUp, report }]) => [name, { isUp, report }]));
  }

  /** Whether any node had waiting jobs at its last probe, up to two seconds ago. */
  get isBehind(): boolean {
    return this.#members.values().some(({ isUp, report }) => isUp && (report?.waitingJobs ?? 0) > 0);
  }

  /** The keys of each node beside its queue, by address. */
  get registries(): ReadonlyMap<string, NodeRegistry> {
    return new Map([...this.#members].map(([name, { worker }]) => [name, worker.registry]));
  }

  /** Starts draining. Resolves after the first probe of each node. */
  async start(): Promise<void> {
    await this.#startRound();
    await this.#untilProbed();
  }

  /** Stops fetching jobs and waits up to `msMax` for the active ones. */
  async stop(msMax: number): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    const members = [...this.#members.values()];
    await Promise.all([this.#round, ...members.map(({ worker }) => worker.stop(msMax))]);
    await this.#untilProbed();
    this.#members.clear();
  }

  async #startRound(): Promise<void> {
    if (this.#isStopped) return;
    this.#round = this.#runRound();
    await this.#round;
    const { timings = TIMINGS } = this.#options;
    if (!this.#isStopped) this.#timer = setTimeout(() => void this.#startRound(), timings.roundIntervalMs);
  }

  async #untilProbed(): Promise<void> {
    await Promise.all([...this.#members.values()].map(({ probe }) => probe));
  }

  /** Discovers the nodes and starts their probes. */
  async #runRound(): Promise<void> {
    const { discover, log } = this.#options;
    try {
      this.#follow(await withDeadline(discover(), DISCOVERY_MS_MAX, 'node discovery'));
    } catch (error) {
      // Without an answer from DNS the pool keeps the nodes it has.
      log.repeated('node discovery failed', { error });
    }
    if (this.#isStopped) return;
    for (const [name, member] of this.#members) {
      member.probe ??= this.#probe(name, member).finally(() => {
        member.probe = undefined;
      });
    }
  }

  #follow(addresses: readonly RedisAddress[]): void {
    if (this.#isStopped) return;
    const { log, submit, onForeignJob, onStalledJob = () => {}, timings = TIMINGS } = this.#options;
    const concurrency = Math.min(
      JOBS_PER_NODE_MAX,
      Math.max(JOBS_PER_NODE_MIN, Math.floor(ACTIVE_JOBS_MAX / addresses.length)),
    );
    const names = new Set(addresses.map(({ name }) => name));
    for (const [name, { worker }] of this.#members) {
      if (names.has(name)) continue;
      log.info('node removed', { node: name });
      this.#members.delete(name);
      void worker.stop(REMOVAL_MS_MAX);
    }
    for (const address of addresses) {
      const member = this.#members.get(address.name);
      if (member) {
        member.worker.concurrency = concurrency;
        continue;
      }
      log.info('node added', { node: address.name });
      const worker = new NodeWorker({
        address,
        concurrency,
        submit,
        onForeignJob,
        onStalledJob,
        log,
        timings,
      });
      this.#members.set(address.name, {
        worker,
        isUp: false,
        report: undefined,
        probe: undefined,
      });
    }
  }

  async #probe(name: string, member: Member): Promise<void> {
    const { log } = this.#options;
    try {
      member.report = await member.worker.probe();
      if (!member.isUp) log.info('node reachable', { node: name });
      member.isUp = true;
    } catch (error) {
      if (member.isUp) log.warn('node unreachable', { node: name, error });
      member.isUp = false;
    }
  }
}
