import { Queue, type RedisQueueBackend } from 'bullmq';
import type { Redis } from 'ioredis';
import {
  APPLIED_KEY,
  type Applied,
  connectionName,
  FENCED_KEY,
  isNodeId,
  isSource,
  LEDGER_KEY,
  NODE_KEY,
  nodeOf,
  POLLS_KEY,
  parseJobKey,
  QUEUE_NAME,
  readApplied,
  readLedger,
} from '#job';
import { withDeadline } from '#runtime/deadline.ts';
import type { Discover } from '#runtime/discovery.ts';
import type { Log } from '#runtime/log.ts';
import { parseStoredPoll } from '#runtime/polls.ts';
import { connectFailingFast, type RedisAddress } from '#runtime/redis.ts';
import type { NodeReading } from './ownership.ts';

/** Deadline of a call to a node. */
const CALL_MS_MAX = 1_000;
const DISCOVERY_INTERVAL_MS = 2_000;
const DISCOVERY_MS_MAX = 5_000;
/** Most ids listed in one response, which blocks Redis for a few milliseconds. */
const JOBS_LISTED_MAX = 20_000;
/** Keys per step of a longer search; Redis serves others between steps. */
const KEYS_PER_STEP = 1_000;

const NOT_READ = 'not read yet';

/** State of a node's queue and Redis, beside its ledger. */
export interface NodeState extends NodeReading {
  /** Its host's name, from the sources in its ledger, for people; its id while there is none. */
  readonly host: string | undefined;
  readonly waiting: number;
  readonly active: number;
  readonly delayed: number;
  /** Age in milliseconds of the job that has waited longest; null if none waits. */
  readonly oldestMs: number | null;
  /** Bytes; `max` is 0 without a limit, and both are 0 for an unreachable node. */
  readonly memory: { readonly used: number; readonly max: number };
  /** State of the append-only file. */
  readonly appendOnlyFile: 'on' | 'off' | 'failing' | 'unknown';
  /** The revision of each poll that the node holds. */
  readonly polls: ReadonlyMap<string, number>;
  /** The sources that are connected to it, frozen ones included, and what each has applied, by poll. */
  readonly handlers: ReadonlyMap<string, ReadonlyMap<string, Applied>>;
}

/** The queue of one node, through a connection that fails fast. */
export class NodeQueue {
  readonly name: string;
  readonly queue: Queue;
  readonly #redis: Redis;
  readonly #log: Log;
  #fault: string | undefined = NOT_READ;
  #connectFault = '';
  #isBroken = false;
  #identity: Identity = { id: undefined, ledger: new Map(), fenced: new Set() };

  constructor(address: RedisAddress, log: Log) {
    this.name = address.name;
    this.#log = log;
    // Requests of bull-board must not wait for a hung Redis either.
    const options = { ...address.options, commandTimeout: CALL_MS_MAX };
    this.#redis = connectFailingFast({ name: address.name, options });
    // Every failed attempt emits an event; `fault` includes the last.
    this.#redis.on('error', (error: NodeJS.ErrnoException) => {
      this.#connectFault = ` (${error.code ?? error.message})`;
    });
    this.#redis.on('ready', () => void this.probe());
    this.queue = new Queue(QUEUE_NAME, { connection: this.#redis, skipMetasUpdate: true });
    this.queue.on('error', () => {});
    this.queue.waitUntilReady().catch(() => {
      this.#isBroken = true;
    });
  }

  /** Why the node is unreachable; `undefined` when it is reachable. */
  get fault(): string | undefined {
    return this.#redis.status === 'ready' ? this.#fault : `not connected${this.#connectFault}`;
  }

  /** BullMQ's queue will never be ready and must be replaced. */
  get isBroken(): boolean {
    return this.#isBroken;
  }

  /** The name of the node's host, or its id; `undefined` before it is known. */
  get host(): string | undefined {
    return hostOf(this.#identity);
  }

  /** The node's name, if known, and its address. */
  get label(): string {
    return this.host === undefined ? this.name : `${this.host} (${this.name})`;
  }

  /** Probes the node, which updates `fault` and `host`. */
  async probe(): Promise<void> {
    if (this.#redis.status !== 'ready') return;
    try {
      await this.queue.waitUntilReady();
      this.#identity = await this.#identify();
      this.#setFault(undefined);
    } catch (error) {
      this.#setFault((error as Error).message);
      // A vanished machine closes no connection; only a new one detects it.
      if (this.#redis.status === 'ready') this.#redis.disconnect(true);
    }
  }

  /**
   * Reads the node: id and ledger first, then the queue. Never throws; the result has a `fault`.
   *
   * @param isListed whether to list job ids, up to 20,000
   * @param searchMsMax longest search of a longer queue; 0 for none
   */
  async read(isListed: boolean, searchMsMax = 0): Promise<NodeState> {
    if (this.fault) return this.#unreachable(this.fault);
    try {
      const msMax = 3 * CALL_MS_MAX + searchMsMax;
      return await withDeadline(this.#read(isListed, searchMsMax > 0), msMax, 'reading the node');
    } catch (error) {
      this.#log.repeated('node not readable', { node: this.name, error });
      return this.#unreachable((error as Error).message);
    }
  }

  async close(): Promise<void> {
    this.#redis.disconnect();
    await this.queue.close().catch(() => undefined);
  }

  async #read(isListed: boolean, isSearched: boolean): Promise<NodeState> {
    this.#identity = await this.#identify();
    const counts = await this.queue.getJobCounts('waiting', 'active', 'delayed', 'prioritized', 'failed');
    const { waiting = 0, active = 0, delayed = 0, prioritized = 0, failed = 0 } = counts;
    const queued = waiting + active + delayed + prioritized;
    return {
      ...this.#identity,
      name: this.name,
      host: this.host,
      fault: undefined,
      queued,
      failed,
      waiting: waiting + prioritized,
      active,
      delayed,
      oldestMs: await this.#readOldest(),
      jobs: isListed ? await this.#nameJobs(queued + failed, isSearched) : undefined,
      ...readInfo(await this.#redis.info()),
      ...(await this.#readControl()),
    };
  }

  /** The job may leave the queue between the calls; then the next reading has the age. */
  async #readOldest(): Promise<number | null> {
    const id = await this.#redis.lindex(this.queue.toKey('wait'), -1);
    const addedAt = id === null ? null : await this.#redis.hget(this.queue.toKey(id), 'timestamp');
    return addedAt === null ? null : Math.max(0, Date.now() - Number(addedAt));
  }

  /** Reads how far changes of polls have come. */
  async #readControl(): Promise<Pick<NodeState, 'polls' | 'handlers'>> {
    const [texts, fields, clients] = await Promise.all([
      this.#redis.hgetall(POLLS_KEY),
      this.#redis.hgetall(APPLIED_KEY),
      this.#redis.client('LIST') as Promise<string>,
    ]);
    const names = new Set(clients.split(/\s/).filter((field) => field.startsWith('name=')));
    const applied = readApplied(fields);
    // Every source is in the ledger, also one that has not applied anything.
    const running = [...this.#identity.ledger.keys()].filter((source) =>
      names.has(`name=${connectionName(source.slice(source.lastIndexOf('.') + 1))}`),
    );
    return {
      polls: new Map(
        Object.entries(texts).map(([id, text]) => [id, parseStoredPoll(id, text)?.revision ?? 0]),
      ),
      handlers: new Map(running.map((source) => [source, applied.get(source) ?? new Map()])),
    };
  }

  /** One transaction: a source is never seen in the ledger without the id or the fence that it had then. */
  async #identify(): Promise<Identity> {
    const transaction = this.#redis.multi().get(NODE_KEY).hgetall(LEDGER_KEY).smembers(FENCED_KEY);
    const replies = (await transaction.exec()) ?? [];
    const failure = replies.find(([error]) => error !== null)?.[0];
    if (failure) throw failure;
    const [id, ledger = {}, fenced = []] = replies.map(([, reply]) => reply) as [
      string | null,
      Record<string, string>?,
      string[]?,
    ];
    return {
      id: isNodeId(id) ? id : undefined,
      ledger: readLedger(ledger),
      fenced: new Set(fenced.filter(isSource)),
    };
  }

  async #nameJobs(jobs: number, isSearched: boolean): Promise<NodeReading['jobs']> {
    const listed = jobs <= JOBS_LISTED_MAX ? await this.#list() : undefined;
    return listed ?? (isSearched ? this.#search() : undefined);
  }

  /** One script, so that no job moves from one state to another in between. */
  async #list(): Promise<NodeReading['jobs']> {
    const backend: RedisQueueBackend = this.queue.getBackend();
    const types = ['failed', 'waiting', 'active', 'delayed', 'prioritized'] as const;
    const [failed = [], ...queued] = await backend.getRanges([...types], 0, JOBS_LISTED_MAX);
    if ([failed, ...queued].some(({ length }) => length > JOBS_LISTED_MAX)) return undefined;
    return { failed: await this.#withData(failed), queued: await this.#withData(queued.flat()) };
  }

  /** Returns the ids whose job data exists. An id without data holds no vote. */
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
   * Finds the jobs of a queue that is too long to list, by scanning for their data. SCAN returns every key that exists during
   * the whole scan; a job that is removed meanwhile is in Postgres.
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
      ...this.#identity,
      name: this.name,
      host: this.host,
      fault,
      queued: 0,
      failed: 0,
      waiting: 0,
      active: 0,
      delayed: 0,
      oldestMs: null,
      memory: { used: 0, max: 0 },
      appendOnlyFile: 'unknown',
      polls: new Map(),
      handlers: new Map(),
    };
  }

  #setFault(fault: string | undefined): void {
    if (fault && !this.#fault) this.#log.warn('node unreachable', { node: this.name, reason: fault });
    if (!fault && this.#fault) this.#log.info('node reachable', { node: this.name });
    this.#fault = fault;
  }
}

export interface NodeQueuesOptions {
  readonly discover: Discover;
  readonly log: Log;
  /** Called on every change of the nodes or their names. */
  readonly onChange?: (queues: readonly NodeQueue[]) => void;
}

/** The queues of all nodes, which follow discovery. */
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

  /** Discovers nodes now and then every 2 s. */
  async follow(): Promise<void> {
    await this.#discover();
    if (!this.#isClosed) this.#timer = setTimeout(() => void this.follow(), DISCOVERY_INTERVAL_MS);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await Promise.all(this.all.map((queue) => queue.close()));
  }

  async #discover(): Promise<void> {
    const { discover, log, onChange } = this.#options;
    try {
      const found = await withDeadline(discover(), DISCOVERY_MS_MAX, 'node discovery');
      if (this.#isClosed) return;
      this.#update(found);
    } catch (error) {
      log.repeated('node discovery failed', { error });
    }
    await Promise.all(this.all.map((queue) => queue.probe()));
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

/** Which node a Redis belongs to, and its sources. */
type Identity = Pick<NodeReading, 'id' | 'ledger' | 'fenced'>;

function hostOf({ id, ledger }: Identity): string | undefined {
  for (const source of ledger.keys()) if (nodeOf(source).id === id) return nodeOf(source).name;
  return id;
}

function readInfo(info: string): Pick<NodeState, 'memory' | 'appendOnlyFile'> {
  const field = (name: string): string => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? '';
  const isOn = field('aof_enabled') === '1';
  return {
    memory: { used: Number(field('used_memory')), max: Number(field('maxmemory')) },
    appendOnlyFile: !isOn ? 'off' : field('aof_last_write_status') === 'ok' ? 'on' : 'failing',
  };
}
