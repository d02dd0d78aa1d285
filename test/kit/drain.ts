import type { Db } from '#db/client.ts';
import { commitBatches } from '#db/commit.ts';
import { mirrorLedger } from '#db/ledgers.ts';
import { parseRedisAddress } from '#runtime/redis.ts';
import { Committer, type CommitterOptions } from '#workers/committer.ts';
import { LedgerMirror } from '#workers/mirror.ts';
import { NodePool } from '#workers/node-pool.ts';
import { recordLog } from './log.ts';

const STOP_MS_MAX = 2_000;

export interface DrainOptions {
  readonly db: Db;
  /** The sockets of the nodes, paths or URLs. */
  readonly sockets: readonly string[];
  /** Instead of a commit that works. */
  readonly commit?: CommitterOptions['commit'] | undefined;
}

/** A drain that runs. */
export interface Drain {
  readonly fleet: NodePool;
  /** Every fault that was reported, and `undefined` for each end of one. */
  readonly faults: readonly (string | undefined)[];
  /** Lets the next round find these nodes and no others. */
  follow(sockets: readonly string[]): void;
  stop(): Promise<void>;
}

/** Drains nodes into a database as a worker does, in this process. */
export async function startDrain({ db, sockets, commit }: DrainOptions): Promise<Drain> {
  const { log } = recordLog();
  const faults: (string | undefined)[] = [];
  const committer = new Committer({
    commit: commit ?? ((batches, shard) => commitBatches(db, batches, shard)),
    log,
    onFault: (fault) => faults.push(fault),
  });
  const mirror = new LedgerMirror((entries, readAt) => mirrorLedger(db, entries, readAt));
  let addresses = sockets.map(parseRedisAddress);
  const fleet = new NodePool({
    discover: async () => addresses,
    count: (received) => committer.submit(received),
    onLedger: (node, ledger, readAt) => mirror.update(node, ledger, readAt),
    log,
  });
  await fleet.start();
  return {
    fleet,
    faults,
    follow: (others) => {
      addresses = others.map(parseRedisAddress);
    },
    stop: async (): Promise<void> => {
      await fleet.stop(STOP_MS_MAX);
      committer.stop();
    },
  };
}
