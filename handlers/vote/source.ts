import { randomBytes } from 'node:crypto';
import { connectionName } from '#job';
import type { ProcessParts } from '#runtime/process.ts';
import type { Readiness } from '#runtime/readiness.ts';
import { connectFailingFast, type RedisAddress } from '#runtime/redis.ts';
import { Capture, type CaptureOptions } from './capture.ts';
import { NodeReader, registerSource } from './node.ts';
import { PollBook } from './polls.ts';
import { exitFenced, FLUSH_MS_MAX } from './processes.ts';
import { VoteQueue } from './queue.ts';

export interface SourceOptions
  extends Pick<CaptureOptions, 'votesPerJobMax' | 'bufferVotesMax' | 'onWrite'>,
    ProcessParts {
  /** The Redis of the node. */
  readonly address: RedisAddress;
  readonly nodeName: string;
  /** Receives the state of the parts `queue` and `node`. */
  readonly readiness: Readiness;
}

/** What the voters' app needs of a source. */
export interface Source {
  readonly source: string;
  readonly polls: PollBook;
  readonly capture: Capture;
}

/**
 * Makes this process a source of votes. Resolves once it is registered at its node and has read the polls, in this order,
 * see `registerSource`. Waits without a limit for the node's Redis and its enrolment.
 */
export async function openSource(parts: SourceOptions): Promise<Source> {
  const { address, nodeName, readiness, log, shutdown, votesPerJobMax, bufferVotesMax, onWrite } = parts;
  const epoch = `${Date.now().toString(36)}-${randomBytes(3).toString('hex')}`;
  const options = { ...address.options, connectionName: connectionName(epoch) };
  const redis = connectFailingFast({ name: address.name, options });
  const queue = new VoteQueue(redis, log);
  queue.watch((fault) => (fault ? readiness.notReady('queue', fault) : readiness.ready('queue')));
  shutdown.defer('close the queue', () => queue.close());
  const source = await registerSource({
    redis,
    nodeName,
    epoch,
    fault: () => queue.fault,
    onWait: (reason) => readiness.notReady('node', reason),
    log,
  });

  const polls = new PollBook(log);
  const onFenced = () => exitFenced(source, { log, shutdown });
  const capture = new Capture({
    source,
    sink: queue,
    polls,
    log,
    votesPerJobMax,
    bufferVotesMax,
    ...(onWrite && { onWrite }),
    onFenced,
  });
  shutdown.defer('write the votes in the buffer', async () => {
    const left = await capture.flush(FLUSH_MS_MAX);
    if (left > 0) log.warn('stopped with unwritten votes, none of them acknowledged', { votes: left });
  });
  const node = new NodeReader({ redis, source, polls, log, onTick: () => capture.seal(), onFenced });
  shutdown.defer('stop reading the node', () => node.stop());
  await node.start();
  readiness.ready('node');
  return { source, polls, capture };
}
