import { Queue, type RedisQueueBackend } from 'bullmq';
import type { Redis } from 'ioredis';
import { isSource, LEDGER_KEY, type LedgerEntry, nodeOf, parseJobKey, QUEUE_NAME, readLedger } from '#job';
import { withDeadline } from '#runtime/deadline.ts';
import type { Discover } from '#runtime/discovery.ts';
import type { Log } from '#runtime/log.ts';
import { connectFailingFast, type RedisAddress } from '#runtime/redis.ts';
import type { NodeReading } from './reconcile.ts';

/** No call to a node is waited for longer than this. */
const CALL_MS_MAX = 1_000;
const DISCOVERY_INTERVAL_MS = 2_000;
const DISCOVERY_MS_MAX = 5_000;
/** Ids are listed as one answer of Redis, which does nothing else meanwhile: a few milliseconds for so many. */
const JOBS_LISTED_MAX = 20_000;
/** A longer queue is searched in steps of so many keys, between which Redis serves others. */
const KEYS_PER_STEP = 1_000;

const NOT_ASKED = 'not asked yet';

/** How a node is, beside its ledger. */
export interface NodeState extends NodeReading {
  /** The names that the node's handlers have given it; usually one. */
  readonly nodes: readonly string[];
  readonly waiting: number;
  readonly active: number;
  readonly delayed: number;
  /** Bytes; `max` is 0 when there is no limit, and both are 0 when the node does not answer. */
  readonly memory: { readonly used: number; readonly max: number };
  /** Whether what it was given is on disk. */
  readonly appendOnlyFile: 'on' | 'off' | 'failing' | 'unknown';
}

/** The queue on one node, through a connection that fails fast. */
export class NodeQueue {
  readonly name: string;
  readonly queue: Queue;
  readonly #redis: Redis;
  readonly #log: Log;
  #fault: string | undefined = NOT_ASKED;
  #connectFault = '';
  #isBroken = false;
  #nodes: readonly string[] = [];
  #ledger: ReadonlyMap<string, LedgerEntry> = new Map();

  constructor(address: RedisAddress, log: Log) {
    this.name = address.name;
    this.#log = log;
    // Also what bull-board asks for must not wait for a Redis that hangs.
    const options = { ...address.options, commandTimeout: CALL_MS_MAX };
    this.#redis = connectFailingFast({ name: address.name, options });
    // Every failed attempt is an event; `fault` tells the last.
    this.#redis.on('error', (error: NodeJS.ErrnoException) => {
      this.#connectFault = ` (${error.code ?? error.message})`;
    });
    this.#redis.on('ready', () => void this.ping());
    this.queue = new Queue(QUEUE_NAME, { connection: this.#redis, skipMetasUpdate: true });
    this.queue.on('error', () => {});
    this.queue.waitUntilReady().catch(() => {
      this.#isBroken = true;
    });
  }

  /** Why the node cannot be asked; `undefined` when it can. */
  get fault(): string | undefined {
    return this.#redis.status === 'ready' ? this.#fault : `not connected${this.#connectFault}`;
  }

  /** BullMQ gave up on it: it never gets ready, and has to be replaced. */
  get isBroken(): boolean {
    return this.#isBroken;
  }

  /** The names that the node's handlers have given it; usually one, and none before it has answered. */
  get nodes(): readonly string[] {
    return this.#nodes;
  }

  /** The node's own name, where it is known, and its address. */
  get label(): string {
    return this.#nodes.length === 0 ? this.name : `${this.#nodes.join(', ')} (${this.name})`;
  }

  /** Looks whether the node answers. */
  async ping(): Promise<void> {
    if (this.#redis.status !== 'ready') return;
    try {
      await this.queue.waitUntilReady();
      this.#nodes = namesOf(await this.#redis.hkeys(LEDGER_KEY));
      this.#enter(undefined);
    } catch (error) {
      this.#enter((error as Error).message);
      // The machine may be gone without a word. Then only a new connection finds out.
      if (this.#redis.status === 'ready') this.#redis.disconnect(true);
    }
  }

  /**
   * Asks the node how it is: the ledger first, then the queue. It never throws; see `fault` of the answer.
   *
   * @param isListed whether to name the jobs too, as long as they are no more than 20,000
   * @param searchMsMax how long a longer queue may be searched for its jobs; 0 leaves it unsearched
   */
  async read(isListed: boolean, searchMsMax = 0): Promise<NodeState> {
    if (this.fault) return this.#unreachable(this.fault);
    try {
      const msMax = 3 * CALL_MS_MAX + searchMsMax;
      return await withDeadline(this.#read(isListed, searchMsMax > 0), msMax, 'asking the node');
    } catch (error) {
      this.#log.repeated('a node cannot be asked', { node: this.name, error });
      return this.#unreachable((error as Error).message);
    }
  }

  async close(): Promise<void> {
    this.#redis.disconnect();
    await this.queue.close().catch(() => undefined);
  }

  async #read(isListed: boolean, isSearched: boolean): Promise<NodeState> {
    this.#ledger = readLedger(await this.#redis.hgetall(LEDGER_KEY));
    this.#nodes = namesOf(this.#ledger.keys());
    const counts = await this.queue.getJobCounts('waiting', 'active', 'delayed', 'prioritized', 'failed');
    const { waiting = 0, active = 0, delayed = 0, prioritized = 0, failed = 0 } = counts;
    const queued = waiting + active + delayed + prioritized;
    return {
      name: this.name,
      nodes: this.#nodes,
      fault: undefined,
      ledger: this.#ledger,
      queued,
      failed,
      waiting: waiting + prioritized,
      active,
      delayed,
      jobs: isListed ? await this.#nameJobs(queued + failed, isSearched) : undefined,
      ...readInfo(await this.#redis.info()),
    };
  }

  async #nameJobs(jobs: number, isSearched: boolean): Promise<NodeReading['jobs']> {
    const listed = jobs <= JOBS_LISTED_MAX ? await this.#list() : undefined;
    return listed ?? (isSearched ? this.#search() : undefined);
  }

  /** One script, so that no job can move from one state to another in between. */
  async #list(): Promise<NodeReading['jobs']> {
    const backend: RedisQueueBackend = this.queue.getBackend();
    const types = ['failed', 'waiting', 'active', 'delayed', 'prioritized'] as const;
    const [failed = [], ...queued] = await backend.getRanges([...types], 0, JOBS_LISTED_MAX);
    if ([failed, ...queued].some(({ length }) => length > JOBS_LISTED_MAX)) return undefined;
    return { failed: await this.#withData(failed), queued: await this.#withData(queued.flat()) };
  }

  /** Those of these jobs that still have their data. An id in a list whose data somebody deleted holds no vote. */
  async #withData(ids: readonly string[]): Promise<string[]> {
    const found: string[] = [];
    for (let start = 0; start < ids.length; start += KEYS_PER_STEP) {
      const step = ids.slice(start, start + KEYS_PER_STEP);
      const keys = step.map((id) => this.queue.toKey(id));
      if ((await this.#redis.exists(...keys)) === step.length) {
        found.push(...step);
        continue;
      }
      const each = await Promise.all(keys.map((key) => this.#redis.exists(key)));
      found.push(...step.filter((_id, index) => each[index] === 1));
    }
    return found;
  }

  /**
   * Finds the jobs of a queue that is too long to be listed at once, by their data. Redis promises to show every key
   * that is there from the beginning to the end of the search; one that went meanwhile is in Postgres.
   */
  async #search(): Promise<NodeReading['jobs']> {
    const prefix = this.queue.toKey('');
    const failed = new Set(await this.#redis.zrange(this.queue.toKey('failed'), 0, String(JOBS_LISTED_MAX)));
    const queued: string[] = [];
    let cursor = '0';
    do {
      const [next, keys] = await this.#redis.scan(cursor, 'MATCH', `${prefix}*`, 'COUNT', KEYS_PER_STEP);
      cursor = next;
      const ids = keys.map((key) => key.slice(prefix.length));
      queued.push(...ids.filter((id) => parseJobKey(id) && !failed.has(id)));
    } while (cursor !== '0');
    return { failed: await this.#withData([...failed]), queued };
  }

  #unreachable(fault: string): NodeState {
    return {
      name: this.name,
      nodes: this.#nodes,
      fault,
      ledger: this.#ledger,
      queued: 0,
      failed: 0,
      waiting: 0,
      active: 0,
      delayed: 0,
      memory: { used: 0, max: 0 },
      appendOnlyFile: 'unknown',
    };
  }

  #enter(fault: string | undefined): void {
    if (fault && !this.#fault) this.#log.warn('a node does not answer', { node: this.name, reason: fault });
    if (!fault && this.#fault) this.#log.info('a node answers', { node: this.name });
    this.#fault = fault;
  }
}

export interface NodeQueuesOptions {
  readonly discover: Discover;
  readonly log: Log;
  /** Hears of every change of the list and of the nodes' names. */
  readonly onChange?: (queues: readonly NodeQueue[]) => void;
}

/** The queues of all nodes, as discovery finds them: nodes come and go. */
export class NodeQueues {
  readonly #options: NodeQueuesOptions;
  readonly #queues = new Map<string, NodeQueue>();
  #timer: NodeJS.Timeout | undefined;
  #labels: string | undefined;
  #isClosed = false;

  constructor(options: NodeQueuesOptions) {
    this.#options = options;
  }

  get all(): readonly NodeQueue[] {
    return [...this.#queues.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** Looks for nodes now, and then again every 2 s. */
  async follow(): Promise<void> {
    await this.#look();
    if (!this.#isClosed) this.#timer = setTimeout(() => void this.follow(), DISCOVERY_INTERVAL_MS);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await Promise.all(this.all.map((queue) => queue.close()));
  }

  async #look(): Promise<void> {
    const { discover, log, onChange } = this.#options;
    try {
      const found = await withDeadline(discover(), DISCOVERY_MS_MAX, 'finding the nodes');
      if (this.#isClosed) return;
      this.#update(found);
    } catch (error) {
      log.repeated('the nodes cannot be discovered; those known stay', { error });
    }
    await Promise.all(this.all.map((queue) => queue.ping()));
    const labels = this.all.map(({ label }) => label).join();
    if (labels !== this.#labels) onChange?.(this.all);
    this.#labels = labels;
  }

  #update(found: readonly RedisAddress[]): void {
    const { log } = this.#options;
    const names = new Set(found.map(({ name }) => name));
    const gone = this.all.filter(({ name, isBroken }) => isBroken || !names.has(name));
    for (const queue of gone) {
      this.#queues.delete(queue.name);
      void queue.close();
    }
    const fresh = found.filter(({ name }) => !this.#queues.has(name));
    for (const address of fresh) this.#queues.set(address.name, new NodeQueue(address, log));
    if (gone.length + fresh.length > 0) this.#labels = undefined;
  }
}

function namesOf(sources: Iterable<string>): string[] {
  return [...new Set([...sources].filter(isSource).map(nodeOf))].toSorted();
}

function readInfo(info: string): Pick<NodeState, 'memory' | 'appendOnlyFile'> {
  const field = (name: string): string => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? '';
  const isOn = field('aof_enabled') === '1';
  return {
    memory: { used: Number(field('used_memory')), max: Number(field('maxmemory')) },
    appendOnlyFile: !isOn ? 'off' : field('aof_last_write_status') === 'ok' ? 'on' : 'failing',
  };
}
