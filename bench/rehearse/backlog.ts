import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeQueues } from '#audit/queues.ts';
import type { Db } from '#db/client.ts';
import { committedVotes } from '../testbed/tables.ts';

const INTERVAL_MS = 250;

/** Columns of the samples. */
export interface BacklogSeries {
  readonly seconds: readonly number[];
  /** Votes in the ledgers that are not committed yet. */
  readonly waiting: readonly number[];
  /** Votes committed since the start. */
  readonly counted: readonly number[];
}

/** Samples the votes that wait to be counted. */
interface BacklogWatch {
  /** Waits until no more votes wait than at the start. @returns whether that is so, after at most `msMax` */
  untilCounted(msMax: number): Promise<boolean>;
  /** @param startedAt the origin of the samples' time, by `performance.now()`; earlier samples are left out */
  end(startedAt: number): Promise<BacklogSeries>;
}

/** The first sample is what later ones are compared with. @throws when the nodes or PostgreSQL cannot be read */
export async function watchBacklog(db: Db, queues: NodeQueues): Promise<BacklogWatch> {
  const first = await sample(db, queues);
  if (!first) throw new Error('the nodes and PostgreSQL cannot be read');
  const series = { seconds: [] as number[], waiting: [] as number[], counted: [] as number[] };
  let isStopped = false;
  const watching = (async () => {
    while (!isStopped) {
      const now = await sample(db, queues);
      if (now) {
        series.seconds.push(performance.now() / 1_000);
        series.waiting.push(Math.max(0, now.waiting - first.waiting));
        series.counted.push(now.committed - first.committed);
      }
      await sleep(INTERVAL_MS);
    }
  })();
  return {
    untilCounted: async (msMax) => {
      const deadline = Date.now() + msMax;
      const seen = series.waiting.length;
      // Only samples that began after this call count: the first to end may have begun before.
      while (Date.now() < deadline) {
        if (series.waiting.slice(seen + 1).includes(0)) return true;
        await sleep(INTERVAL_MS);
      }
      return false;
    },
    end: async (startedAt) => {
      isStopped = true;
      await watching;
      const seconds = series.seconds.map((at) => at - startedAt / 1_000);
      const isKept = (_value: number, index: number): boolean => (seconds[index] ?? 0) >= 0;
      return {
        seconds: seconds.filter(isKept),
        waiting: series.waiting.filter(isKept),
        counted: series.counted.filter(isKept),
      };
    },
  };
}

/** Returns `undefined` while a node or PostgreSQL cannot be read. Committed votes are read first, so waiting ones are not negative. */
async function sample(db: Db, queues: NodeQueues) {
  try {
    const committed = await committedVotes(db);
    const nodes = await Promise.all(queues.all.map((queue) => queue.read(false)));
    if (nodes.length === 0 || nodes.some(({ fault }) => fault !== undefined)) return undefined;
    const accepted = nodes
      .flatMap(({ ledger }) => [...ledger.values()])
      .reduce((sum, { votes }) => sum + votes, 0);
    return { committed, waiting: accepted - committed };
  } catch {
    return undefined;
  }
}
