import { Capture } from '#handlers/vote/capture.ts';
import { VoteQueue } from '#handlers/vote/queue.ts';
import { formatLedgerEntry, LEDGER_KEY } from '#job';
import { connectFailingFast, parseRedisAddress } from '#runtime/redis.ts';
import { recordLog } from './log.ts';
import { until } from './until.ts';

/** For a `Capture` whose polls never close. */
export const NO_CLOSED_POLLS = { isClosed: () => false, unsealed: [], markSealed: () => {} };

/**
 * Opens the capture of a source on a node, as the vote handler does, except that it captures for every poll and never seals.
 * Close it before its Redis stops.
 *
 * @param socket the path or URL of the node's Redis
 */
export async function openCapture(socket: string, source: string, votesPerJobMax = 500) {
  const { log } = recordLog();
  const redis = connectFailingFast(parseRedisAddress(socket));
  const queue = new VoteQueue(redis, log);
  await until('the queue is open', () => queue.fault === undefined);
  await redis.hsetnx(LEDGER_KEY, source, formatLedgerEntry({ seq: 0, votes: 0 }));
  const capture = new Capture({
    source,
    sink: queue,
    polls: NO_CLOSED_POLLS,
    log,
    votesPerJobMax,
    bufferVotesMax: Math.max(1_000, votesPerJobMax),
    onFenced: () => {},
  });
  return { capture, close: () => queue.close() };
}
