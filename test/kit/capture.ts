import { Capture } from '#handlers/vote/capture.ts';
import { VoteQueue } from '#handlers/vote/queue.ts';
import { connectFailingFast, parseRedisAddress } from '#runtime/redis.ts';
import { recordLog } from './log.ts';
import { until } from './until.ts';

/**
 * Opens the capture of a source on a node, as the vote handler does. Close it before its Redis stops.
 *
 * @param socket the path or URL of the node's Redis
 */
export async function openCapture(socket: string, source: string, votesPerJobMax = 500) {
  const { log } = recordLog();
  const queue = new VoteQueue(connectFailingFast(parseRedisAddress(socket)), source, log);
  await until('the queue is open', () => queue.fault === undefined);
  const bufferVotesMax = Math.max(1_000, votesPerJobMax);
  const capture = new Capture({ source, sink: queue, log, votesPerJobMax, bufferVotesMax });
  return { capture, close: () => queue.close() };
}
