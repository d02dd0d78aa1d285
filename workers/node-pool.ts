import type { LedgerEntry, ReceivedBatch } from '#job';
import { withDeadline } from '#runtime/deadline.ts';
import type { Discover } from '#runtime/discovery.ts';
import type { Log } from '#runtime/log.ts';
import type { RedisAddress } from '#runtime/redis.ts';
import { NodeWorker } from './node-worker.ts';

const ROUND_INTERVAL_MS = 2_000;
const DISCOVERY_MS_MAX = 5_000;
/** Jobs in hand over all nodes: what bounds the memory of a worker. */
const JOBS_IN_HAND_MAX = 64;
const JOBS_PER_NODE_MIN = 2;
const JOBS_PER_NODE_MAX = 32;
/** A node that left the list finishes its jobs in hand for so long. */
const REMOVAL_MS_MAX = 10_000;

export interface NodePoolOptions {
  readonly discover: Discover;
  /** Counts a job, see `Committer.submit`. */
  readonly count: (batch: ReceivedBatch) => Promise<void>;
  /** Takes what a node's ledger says, each time it was read, and when the node was asked. */
  readonly onLedger: (
    node: string,
    ledger: ReadonlyMap<string, LedgerEntry>,
    readAt: number,
  ) => Promise<void>;
  readonly log: Log;
}

/** How a node was when it was last asked. */
export interface NodeState {
  readonly isUp: boolean;
  readonly waitingJobs: number;
  readonly jobsInHand: number;
}

interface Member {
  readonly drained: NodeWorker;
  isUp: boolean;
  waitingJobs: number;
}

/**
 * Drains the queues of all nodes, whichever there are. Every few seconds a round: find the nodes, start with new ones,
 * leave those that have gone, ask each how it is. A node that does not answer is kept; it comes back with its votes.
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
    return new Map(
      [...this.#members].map(([name, { drained, isUp, waitingJobs }]) => [
        name,
        { isUp, waitingJobs, jobsInHand: drained.jobsInHand },
      ]),
    );
  }

  /** Starts draining; resolves after the first round. */
  async start(): Promise<void> {
    if (this.#isStopped) return;
    this.#round = this.#runRound();
    await this.#round;
    if (!this.#isStopped) this.#timer = setTimeout(() => void this.start(), ROUND_INTERVAL_MS);
  }

  /** Takes no more jobs and finishes those in hand, if that takes no longer than `msMax`. */
  async stop(msMax: number): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    const members = [...this.#members.values()];
    await Promise.all([this.#round, ...members.map(({ drained }) => drained.close(msMax))]);
    this.#members.clear();
  }

  async #runRound(): Promise<void> {
    const { discover, log } = this.#options;
    try {
      this.#follow(await withDeadline(discover(), DISCOVERY_MS_MAX, 'finding the nodes'));
    } catch (error) {
      // A name server that is away takes nobody's votes away: go on with the nodes we know.
      log.repeated('cannot find the nodes', { error });
    }
    await Promise.all([...this.#members].map(([name, member]) => this.#ask(name, member)));
  }

  #follow(addresses: readonly RedisAddress[]): void {
    if (this.#isStopped) return;
    const { log, count } = this.#options;
    const concurrency = Math.min(
      JOBS_PER_NODE_MAX,
      Math.max(JOBS_PER_NODE_MIN, Math.floor(JOBS_IN_HAND_MAX / addresses.length)),
    );
    const names = new Set(addresses.map(({ name }) => name));
    for (const [name, { drained }] of this.#members) {
      if (names.has(name)) continue;
      log.info('a node has gone', { node: name });
      this.#members.delete(name);
      void drained.close(REMOVAL_MS_MAX);
    }
    for (const address of addresses) {
      const member = this.#members.get(address.name);
      if (member) {
        member.drained.concurrency = concurrency;
        continue;
      }
      log.info('a node has come', { node: address.name });
      const drained = new NodeWorker({ address, concurrency, count, log });
      this.#members.set(address.name, { drained, isUp: false, waitingJobs: 0 });
    }
  }

  async #ask(name: string, member: Member): Promise<void> {
    const { log, onLedger } = this.#options;
    try {
      const askedAt = Date.now();
      const { waitingJobs, ledger } = await member.drained.ask();
      if (!member.isUp) log.info('a node answers', { node: name });
      member.isUp = true;
      member.waitingJobs = waitingJobs;
      void onLedger(name, ledger, askedAt).catch((error: unknown) => {
        log.repeated('cannot mirror a ledger', { node: name, error });
      });
    } catch (error) {
      if (member.isUp) log.warn('a node does not answer', { node: name, error });
      member.isUp = false;
    }
  }
}
