import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import {
  APPLIED_KEY,
  CANDIDATE_KEY,
  FENCED_KEY,
  IMAGES_KEY,
  isNodeId,
  isSource,
  LEDGER_KEY,
  type LedgerEntry,
  NODE_KEY,
  nodeOf,
  POLLS_KEY,
  readLedger,
  readSeals,
  SEALED_KEY,
  type Seal,
} from '#job';
import { DeadlineError, withDeadline } from '#runtime/deadline.ts';
import type { Images } from '#runtime/images.ts';
import { formatStoredPoll, parseStoredPoll, type StoredPoll } from '#runtime/polls.ts';

/** Longest wait for the answer of a node. */
const REGISTRY_MS_MAX = 1_000;
/** A retired node whose Redis keeps running is not enrolled again for this long, so that it can be removed. */
const RETIRED_SECONDS = 600;
/** A candidate of the form `retired:<node id>:<run id of Redis>` marks a retirement: no node is enrolled here. */
const RETIRED = /^retired:([a-z2-7]+):(\w+)$/;

/** What a node's Redis held in one transaction. */
export interface NodeContents {
  /** The id of the node; `undefined` while it is not enrolled. */
  readonly id: string | undefined;
  /** The id it had until it was retired, while it is marked as retired. */
  readonly retiredId: string | undefined;
  /** Whether its Redis was started again since then, so the node is back in service. */
  readonly isBack: boolean;
  readonly polls: readonly StoredPoll[];
  /** All sources that ever ran on this Redis and are not forgotten, also under an older id. */
  readonly ledger: ReadonlyMap<string, LedgerEntry>;
  readonly seals: readonly { readonly source: string; readonly poll: string; readonly seal: Seal }[];
  readonly fenced: ReadonlySet<string>;
  /** The names of its images. */
  readonly images: readonly string[];
  /** When the node was asked, as `performance.now()`. */
  readonly readAt: number;
  /** Clock of the node minus this process's clock. */
  readonly clockSkewMs: number;
}

/**
 * Writes each poll that is newer than the stored one: a higher revision, or the same one with a state that it never leaves, closed
 * or forgotten, that the stored one does not have. A poll stays forgotten.
 */
const PUT_POLLS = `
  local function put(key, id, text)
    local isStored, stored = pcall(cjson.decode, redis.call('HGET', key, id) or '')
    local poll = cjson.decode(text)
    local isNewer = not isStored or poll.revision > stored.revision
      or (poll.revision == stored.revision and (poll.isClosed or not stored.isClosed)
        and ((poll.isClosed and not stored.isClosed) or (poll.isForgotten and not stored.isForgotten)))
    if isNewer and isStored and stored.isForgotten and not poll.isForgotten then
      text = string.sub(text, 1, -2) .. ',"isForgotten":true}'
    end
    if isNewer then redis.call('HSET', key, id, text) end
  end
`;
// Redis requires that a user may write the keys that a script declares. A worker may only read ledger and seals, so the
// scripts name these themselves.

const RUN_ID = `string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')`;
/** KEYS: node, polls, fenced, candidate, images. ARGV: id and text of each poll. */
const EXCHANGE = `${PUT_POLLS}
  local id = redis.call('GET', KEYS[1])
  if id then for i = 1, #ARGV, 2 do put(KEYS[2], ARGV[i], ARGV[i + 1]) end end
  return {
    id, redis.call('HGETALL', KEYS[2]), redis.call('HGETALL', '${LEDGER_KEY}'), redis.call('HGETALL', '${SEALED_KEY}'),
    redis.call('SMEMBERS', KEYS[3]), redis.call('TIME'), redis.call('GET', KEYS[4]), ${RUN_ID},
    redis.call('HKEYS', KEYS[5])
  }
`;
/** KEYS: candidate, node, polls. ARGV: the candidate, then id and text of each poll. */
const ENROL = `${PUT_POLLS}
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
  for i = 2, #ARGV, 2 do put(KEYS[3], ARGV[i], ARGV[i + 1]) end
  return redis.call('SETNX', KEYS[2], ARGV[1])
`;
/** KEYS: node, fenced. ARGV: the node's id, then sources. */
const FENCE = `
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
  for i = 2, #ARGV do redis.call('SADD', KEYS[2], ARGV[i]) end
  return 1
`;
/** KEYS: node, fenced, candidate. ARGV: the node's id. */
const RETIRE = `
  if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
  for _, source in ipairs(redis.call('HKEYS', '${LEDGER_KEY}')) do redis.call('SADD', KEYS[2], source) end
  redis.call('SET', KEYS[3], 'retired:' .. ARGV[1] .. ':' .. ${RUN_ID})
  redis.call('DEL', KEYS[1])
  return 1
`;

/**
 * The keys of one node beside its queue: its id, the polls, and the sources' ledger, seals and fences. Every method is one
 * transaction in the node's Redis, and fails after `REGISTRY_MS_MAX`.
 */
export class NodeRegistry {
  readonly #redis: Redis;

  /** @param redis a connection that fails fast; its owner closes it */
  constructor(redis: Redis) {
    this.#redis = redis;
  }

  /** Stores the polls that are newer than the node's, and reads everything in the same transaction. */
  async exchange(polls: readonly StoredPoll[]): Promise<NodeContents> {
    const readAt = performance.now();
    const askedAt = Date.now();
    const keys = [NODE_KEY, POLLS_KEY, FENCED_KEY, CANDIDATE_KEY, IMAGES_KEY];
    const reply = await this.#run(EXCHANGE, keys, polls.flatMap(pollArguments));
    const [id, stored, ledger, sealed, fenced, [seconds, micros], candidate, runId, images] = reply as [
      string | null,
      string[],
      string[],
      string[],
      string[],
      [string, string],
      string | null,
      string,
      string[],
    ];
    const [, retiredId, retiredRunId] = RETIRED.exec(candidate ?? '') ?? [];
    const nodeMs = Number(seconds) * 1_000 + Number(micros) / 1_000;
    return {
      id: isNodeId(id) ? id : undefined,
      retiredId: id === null && isNodeId(retiredId) ? retiredId : undefined,
      isBack: retiredRunId !== undefined && retiredRunId !== runId,
      polls: Object.entries(toRecord(stored)).flatMap(([poll, text]) => parseStoredPoll(poll, text) ?? []),
      ledger: readLedger(toRecord(ledger)),
      seals: readSeals(toRecord(sealed)),
      fenced: new Set(fenced.filter(isSource)),
      images,
      readAt,
      clockSkewMs: Math.round(nodeMs - (askedAt + Date.now()) / 2),
    };
  }

  /** Returns the id under which to enrol this node: workers that race get the same. `undefined` if it is marked as retired. */
  async proposeId(): Promise<string | undefined> {
    await this.#within(this.#redis.set(CANDIDATE_KEY, newNodeId(), 'NX'));
    const candidate = await this.#within(this.#redis.get(CANDIDATE_KEY));
    return isNodeId(candidate) ? candidate : undefined;
  }

  /** Stores the polls and then the id, which lets the handlers of this node start. */
  async enrol(id: string, polls: readonly StoredPoll[]): Promise<void> {
    await this.#run(ENROL, [CANDIDATE_KEY, NODE_KEY, POLLS_KEY], [id, ...polls.flatMap(pollArguments)]);
  }

  /** Adds images, and deletes others. */
  async putImages(added: Images, deleted: readonly string[]): Promise<void> {
    const transaction = this.#redis.multi();
    for (const [name, bytes] of added) transaction.hset(IMAGES_KEY, name, Buffer.from(bytes));
    if (deleted.length > 0) transaction.hdel(IMAGES_KEY, ...deleted);
    await this.#within(transaction.exec());
  }

  /** Fences sources of the node. Their later writes are not acknowledged. */
  async fence(id: string, sources: readonly string[]): Promise<void> {
    await this.#run(FENCE, [NODE_KEY, FENCED_KEY], [id, ...sources]);
  }

  /** Fences all sources of the node and deletes its id, so that no source can register any more. */
  async retire(id: string): Promise<void> {
    const keys = [NODE_KEY, FENCED_KEY, CANDIDATE_KEY];
    await this.#run(RETIRE, keys, [id]);
  }

  /** Removes the mark of a retirement, at once or after ten minutes. Then the node is enrolled anew, if it is still there. */
  async releaseRetired(isBack: boolean): Promise<void> {
    if (isBack) await this.#within(this.#redis.del(CANDIDATE_KEY));
    else await this.#within(this.#redis.expire(CANDIDATE_KEY, RETIRED_SECONDS, 'NX'));
  }

  /** Deletes sources that are fenced and folded. A handler without a ledger entry is fenced as well. */
  async forget(sources: readonly string[], seals: NodeContents['seals']): Promise<void> {
    if (sources.length === 0) return;
    const forgotten = new Set(sources);
    const fields = seals
      .filter(({ source }) => forgotten.has(source))
      .map(({ source, poll }) => `${source}/${poll}`);
    const transaction = this.#redis
      .multi()
      .hdel(LEDGER_KEY, ...sources)
      .hdel(APPLIED_KEY, ...sources);
    if (fields.length > 0) transaction.hdel(SEALED_KEY, ...fields);
    await this.#within(transaction.srem(FENCED_KEY, ...sources).exec());
  }

  /** Returns whether a worker may commit the source's jobs from this node's queue: it is of this node, or was fenced here. */
  async owns(source: string): Promise<boolean> {
    const [id, isFenced] = await this.#within(
      Promise.all([this.#redis.get(NODE_KEY), this.#redis.sismember(FENCED_KEY, source)]),
    );
    return id === nodeOf(source).id || isFenced === 1;
  }

  #run(script: string, keys: readonly string[], values: readonly string[]): Promise<unknown> {
    return this.#within(this.#redis.eval(script, keys.length, ...keys, ...values));
  }

  async #within<T>(reply: Promise<T>): Promise<T> {
    return withDeadline(reply, REGISTRY_MS_MAX, 'the node').catch((error: unknown) => {
      // If the machine vanished without closing the connection, only a new connection detects its return.
      if (error instanceof DeadlineError) this.#redis.disconnect(true);
      throw error;
    });
  }
}

function pollArguments(poll: StoredPoll): [string, string] {
  return [poll.id, formatStoredPoll(poll)];
}

/** Returns 64 random bits in base 32, so that no two nodes get the same id. */
function newNodeId(): string {
  const digits = 'abcdefghijklmnopqrstuvwxyz234567';
  let bits = randomBytes(8).readBigUInt64BE();
  let id = '';
  for (let digit = 0; digit < 13; digit += 1) {
    id += digits[Number(bits & 31n)];
    bits >>= 5n;
  }
  return id;
}

function toRecord(flat: readonly string[]): Record<string, string> {
  const record: Record<string, string> = {};
  for (let index = 0; index < flat.length; index += 2)
    record[flat[index] as string] = flat[index + 1] as string;
  return record;
}
