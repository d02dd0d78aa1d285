import type { Db } from '#db/client.ts';
import { commitBatches } from '#db/commit.ts';
import { parseRedisAddress } from '#runtime/redis.ts';
import { Committer, type CommitterOptions } from '#workers/committer.ts';
import { Coordinator } from '#workers/coordinator.ts';
import { NodePool } from '#workers/node-pool.ts';
import { recordLog } from './log.ts';

/** Shorter than in production, to keep tests fast. */
const TIMINGS = { roundIntervalMs: 100, probeMsMax: 1_000, stalledCheckIntervalMs: 500, versionDelayMs: 500 };
const STOP_MS_MAX = 2_000;

export interface DrainOptions {
  readonly db: Db;
  /** Redis addresses of the nodes: socket paths or URLs. */
  readonly sockets: readonly string[];
  /** Replaces `commitBatches`. */
  readonly commit?: CommitterOptions['commit'] | undefined;
  /** Longest wait for a node's answer, 1 s by default. */
  readonly probeMsMax?: number;
}

/** A running drain. */
export interface Drain {
  readonly pool: NodePool;
  /** The faults reported so far; `undefined` stands for a recovery. */
  readonly faults: readonly (string | undefined)[];
  /** The lines logged so far. */
  readonly lines: readonly Record<string, unknown>[];
  /** Returns how many jobs of other nodes were found. */
  foreignJobs(): number;
  /** Sets the nodes that the next round discovers. */
  follow(sockets: readonly string[]): void;
  stop(): Promise<void>;
}

/** Starts draining nodes into a database in this process, with the parts of a worker. */
export async function startDrain({
  db,
  sockets,
  commit,
  probeMsMax = TIMINGS.probeMsMax,
}: DrainOptions): Promise<Drain> {
  const { log, lines } = recordLog();
  const faults: (string | undefined)[] = [];
  const committer = new Committer({
    commit: commit ?? ((batches, shard) => commitBatches(db, batches, shard)),
    log,
    onFault: (fault) => faults.push(fault),
  });
  let foreignJobs = 0;
  let addresses = sockets.map(parseRedisAddress);
  const pool = new NodePool({
    discover: async () => addresses,
    submit: (batch) => committer.submit(batch),
    onForeignJob: () => {
      foreignJobs += 1;
    },
    log,
    timings: { ...TIMINGS, probeMsMax },
  });
  const coordinator = new Coordinator({
    db,
    registries: () => pool.registries,
    log,
    roundIntervalMs: TIMINGS.roundIntervalMs,
  });
  await pool.start();
  coordinator.start();
  return {
    pool,
    faults,
    lines,
    foreignJobs: () => foreignJobs,
    follow: (others) => {
      addresses = others.map(parseRedisAddress);
    },
    stop: async (): Promise<void> => {
      await coordinator.stop();
      await pool.stop(STOP_MS_MAX);
      committer.stop();
    },
  };
}
