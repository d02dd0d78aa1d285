import type { Db } from '../../db/client.ts';
import { commitBatches } from '../../db/commit.ts';
import { mirrorLedger } from '../../db/ledgers.ts';
import { parseRedisAddress } from '../../stack/runtime/redis.ts';
import { Committer, type CommitterOptions } from '../../workers/committer.ts';
import { Fleet } from '../../workers/fleet.ts';
import { LedgerMirror } from '../../workers/mirror.ts';
import { recordLog } from './log.ts';

const STOP_MS_MAX = 2_000;

export interface DrainOptions {
  readonly db: Db;
  /** The sockets of the nodes, paths or URLs. */
  readonly sockets: readonly string[];
  /** Instead of a commit that works. */
  readonly commit?: CommitterOptions['commit'];
}

/** Drains nodes into a database as a worker does, in this process. */
export async function startDrain({ db, sockets, commit }: DrainOptions) {
  const { log } = recordLog();
  const committer = new Committer({
    commit: commit ?? ((batches, shard) => commitBatches(db, batches, shard)),
    log,
  });
  const mirror = new LedgerMirror((entries, readAt) => mirrorLedger(db, entries, readAt));
  const addresses = sockets.map(parseRedisAddress);
  const fleet = new Fleet({
    discover: async () => addresses,
    count: (received) => committer.submit(received),
    onLedger: (node, ledger, readAt) => mirror.update(node, ledger, readAt),
    log,
  });
  await fleet.start();
  return {
    stop: async (): Promise<void> => {
      await fleet.stop(STOP_MS_MAX);
      committer.stop();
    },
  };
}
