import { randomUUIDv7 } from 'node:crypto';
import { Queue } from 'bullmq';
import { registerSource } from '#handlers/vote/node.ts';
import { VoteQueue } from '#handlers/vote/queue.ts';
import { type Batch, QUEUE_NAME, type Vote } from '#job';
import { createLog } from '#runtime/log.ts';
import { connectFailingFast, parseRedisAddress } from '#runtime/redis.ts';

const POLL = 'cats-vs-dogs';
const CHOICES = ['cats', 'dogs'] as const;
/** As many jobs as a busy handler writes at once. */
const JOBS_PER_WRITE = 20;
const JOBS_PER_BULK = 500;

/** Returns votes of new voters, with increasing times. */
function makeVotes(count: number): Vote[] {
  const from = Date.now() * 1_000;
  return Array.from({ length: count }, (_, index) => [
    POLL,
    randomUUIDv7(),
    CHOICES[index % CHOICES.length] as string,
    from + index,
  ]);
}

/** A source that fills the queue of a node as its vote handler does, without HTTP. */
class BacklogSource {
  readonly #queue: VoteQueue;
  readonly #source: string;
  #seq = 0;
  #votes = 0;

  private constructor(queue: VoteQueue, source: string) {
    this.#queue = queue;
    this.#source = source;
  }

  /** Waits until the node is enrolled: by a worker or `enrolNode`. */
  static async open(nodeName: string, socket: string): Promise<BacklogSource> {
    const redis = connectFailingFast(parseRedisAddress(socket));
    const log = createLog('bench', () => {});
    const queue = new VoteQueue(redis, log);
    const source = await registerSource({
      redis,
      nodeName,
      epoch: `${Date.now().toString(36)}-bench`,
      fault: () => queue.fault,
      onWait: () => {},
      log,
    });
    return new BacklogSource(queue, source);
  }

  /** Adds votes in jobs of at most `votesPerJob`. */
  async add(votes: number, votesPerJob: number): Promise<void> {
    for (let left = votes; left > 0; ) {
      const batches: Batch[] = [];
      for (; left > 0 && batches.length < JOBS_PER_WRITE; ) {
        const size = Math.min(left, votesPerJob);
        this.#seq += 1;
        this.#votes += size;
        batches.push({ source: this.#source, seq: this.#seq, votes: makeVotes(size) });
        left -= size;
      }
      const ledger = { seq: this.#seq, votes: this.#votes };
      await this.#queue.write({ source: this.#source, batches, ledger, seals: [] });
    }
  }

  async close(): Promise<void> {
    await this.#queue.close();
  }
}

/** Adds votes to several enrolled nodes evenly, in jobs of at most `votesPerJob`. */
export async function fill(sockets: readonly string[], votes: number, votesPerJob: number): Promise<void> {
  const share = Math.ceil(votes / sockets.length);
  await Promise.all(
    sockets.map(async (socket, index) => {
      const source = await BacklogSource.open(`bench${String(index + 1).padStart(2, '0')}`, socket);
      await source.add(Math.min(share, votes - share * index), votesPerJob);
      await source.close();
    }),
  );
}

/** Adds votes to a queue in the format of the baseline `job-per-vote`. */
export async function fillJobPerVote(socket: string, votes: number): Promise<void> {
  await withQueue(socket, async (queue) => {
    for (let left = votes; left > 0; left -= JOBS_PER_BULK) {
      const jobs = makeVotes(Math.min(left, JOBS_PER_BULK)).map(([poll, voter, choice, castAt]) => ({
        name: 'vote',
        data: { poll, voter, choice, castAt: Math.floor(castAt / 1_000) },
      }));
      await queue.addBulk(jobs);
    }
  });
}

/** Pauses or resumes the queues of nodes. */
export async function setPaused(sockets: readonly string[], isPaused: boolean): Promise<void> {
  await Promise.all(
    sockets.map((socket) => withQueue(socket, (queue) => (isPaused ? queue.pause() : queue.resume()))),
  );
}

/** BullMQ does not close a connection that was passed to it. */
async function withQueue(socket: string, work: (queue: Queue) => Promise<void>): Promise<void> {
  const connection = connectFailingFast(parseRedisAddress(socket));
  const queue = new Queue(QUEUE_NAME, { connection });
  try {
    await queue.waitUntilReady();
    await work(queue);
  } finally {
    await queue.close();
    connection.disconnect();
  }
}
