import { randomUUID } from 'node:crypto';
import type { Db } from '#db/client.ts';
import { readFenced, readOverdueSources, recordFences } from '#db/fences.ts';
import { finalizePoll, readClosedPolls, recordClosings, recordSeals } from '#db/final.ts';
import { foldReceipts } from '#db/fold.ts';
import { deleteForgotten, forgetExpired } from '#db/forget.ts';
import { recordHistory } from '#db/history.ts';
import { readImages } from '#db/images.ts';
import { acquireLease, type Lease, releaseLease } from '#db/leases.ts';
import { finishRetirement, insertNode, readRetiringNodes } from '#db/nodes.ts';
import { adoptPolls, closeDuePolls, readStoredPolls } from '#db/polls.ts';
import { mirrorNodes, type NodeReading, readServer } from '#db/sources.ts';
import { nodeOf } from '#job';
import { withDeadline } from '#runtime/deadline.ts';
import type { Log } from '#runtime/log.ts';
import { imagesOf, type StoredPoll } from '#runtime/polls.ts';
import type { NodeContents, NodeRegistry } from './node-registry.ts';

const LEASE_NAME = 'coordinator';
/** Another worker takes over when the holder has not renewed its lease for this long. */
export const LEASE_MS = 3_000;
const ROUND_INTERVAL_MS = 1_000;
/** A round goes on without the nodes that have not answered by then; their answers join the next one. */
const EXCHANGE_MS_MAX = 500;
/** Folds per round: bounds its length when a backlog of receipts has to be folded. */
const FOLDS_PER_ROUND_MAX = 20;
/** A round deletes votes of forgotten polls for this long, and one batch more. */
const DELETION_MS_MAX = 200;
/** Clocks further apart than this are reported: votes of one voter on two nodes may then be ordered wrongly. */
const CLOCK_SKEW_MS_MAX = 1_000;
/** Longest wait of a stopping worker for a round and the release of the lease. */
const STOP_MS_MAX = 2_000;

if (2 * ROUND_INTERVAL_MS >= LEASE_MS) {
  throw new RangeError('the lease must outlast a missed round: 2 * ROUND_INTERVAL_MS < LEASE_MS');
}

export interface CoordinatorOptions {
  /** Not the committer's pool: on a slow disk the commits would wait for it. One connection suffices. */
  readonly db: Db;
  /** Returns the registries of all nodes by address. */
  readonly registries: () => ReadonlyMap<string, NodeRegistry>;
  readonly log: Log;
  /** Tests shorten it. */
  readonly roundIntervalMs?: number;
}

/** What the coordinator last read of a node, for the metrics. */
export interface CoordinatedNode {
  readonly id: string | undefined;
  /** The name of its host; `undefined` while it has no source. */
  readonly name: string | undefined;
  readonly clockSkewMs: number;
  readonly seals: number;
  readonly fences: number;
  readonly pollRevisions: ReadonlyMap<string, number>;
}

interface Reading {
  readonly address: string;
  readonly registry: NodeRegistry;
  readonly contents: NodeContents;
}

/**
 * Keeps Postgres and the nodes in agreement, and makes closed polls final.
 *
 * standby ──lease free or expired──▶ holder ──lease lost──▶ standby
 *
 * One worker at a time does this, the holder of a lease. Two holders at a time are harmless: every step is idempotent or
 * decided by a lock in Postgres or a transaction in Redis. A round:
 *
 *   1. closes the polls whose time has come, in Postgres;
 *   2. with each node, in one Redis transaction: stores newer polls, and reads ledger, seals and fences;
 *   3. enrols the nodes that have no id: row in Postgres, then polls, then id;
 *   4. mirrors the ledgers, then records fences, then which closes are stored in which nodes, then seals;
 *   5. fences the sources that have not sealed in time, and all sources of retiring nodes;
 *   6. folds receipts, and makes polls final whose sources are all sealed or fenced, and counted;
 *   7. deletes some of the votes of polls that are forgotten;
 *   8. records how many votes all sources have accepted.
 *
 * The order within 2 to 4 is what finality depends on: every source that can still accept a vote for a closed poll is in the
 * ledger that is read in the same transaction as, or after, the close was stored in the node. `test/model` explores it.
 */
export class Coordinator {
  readonly #options: CoordinatorOptions;
  readonly #lease: Lease = { name: LEASE_NAME, holder: randomUUID(), durationMs: LEASE_MS };
  readonly #exchanges = new Map<NodeRegistry, Promise<void>>();
  readonly #nodes = new Map<string, CoordinatedNode>();
  #readings: Reading[] = [];
  #timer: NodeJS.Timeout | undefined;
  #round: Promise<void> = Promise.resolve();
  #isHolder = false;
  #isStopped = false;

  constructor(options: CoordinatorOptions) {
    this.#options = options;
  }

  get isHolder(): boolean {
    return this.#isHolder;
  }

  /** The nodes by address, as this worker last read them; empty unless it holds the lease. */
  get nodes(): ReadonlyMap<string, CoordinatedNode> {
    return this.#nodes;
  }

  /** Runs a round now and then every second. */
  start(): void {
    if (this.#isStopped) return;
    const { roundIntervalMs = ROUND_INTERVAL_MS } = this.#options;
    this.#round = this.round().then(() => {
      if (!this.#isStopped) this.#timer = setTimeout(() => this.start(), roundIntervalMs);
    });
  }

  /** Stops after the current round and releases the lease. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    const { db, log } = this.#options;
    const released = this.#round.then(() => (this.#isHolder ? releaseLease(db, this.#lease) : undefined));
    await withDeadline(released, STOP_MS_MAX, 'stopping the coordinator').catch((error: unknown) => {
      // It expires by itself.
      log.debug('lease not released', { lease: LEASE_NAME, error });
    });
  }

  /** Acquires or renews the lease, and if that succeeds does all that a round does. Never throws. */
  async round(): Promise<void> {
    const { db, log } = this.#options;
    try {
      const isHolder = await acquireLease(db, this.#lease);
      if (isHolder !== this.#isHolder) {
        log.info(isHolder ? 'lease acquired' : 'lease lost', { lease: LEASE_NAME });
      }
      this.#isHolder = isHolder;
      if (!isHolder) this.#nodes.clear();
      if (isHolder) await this.#coordinate();
    } catch (error) {
      log.repeated('coordination failed, retrying', { error });
    }
  }

  async #coordinate(): Promise<void> {
    const { db, log } = this.#options;
    for (const poll of await closeDuePolls(db)) log.info('poll closed', { poll });
    // Before the polls: if Postgres is replaced in between, what is recorded below is not taken for the new server's.
    const server = await readServer(db);
    const polls = await readStoredPolls(db);
    const readings = await this.#exchangeAll(polls);
    await this.#enrolNew(readings);
    await this.#adopt(readings, polls);
    await this.#mirrorImages(readings, polls);
    const closed = await readClosedPolls(db);
    const fenced = await this.#mirror(readings, closed, server);
    await Promise.all([this.#fenceOverdue(readings), this.#retire(readings)]);
    await this.#fold();
    for (const poll of closed) {
      if (await finalizePoll(db, poll)) log.info('poll final', { poll });
    }
    await this.#forget(readings, fenced);
    await this.#deleteForgotten();
    await recordHistory(db);
  }

  /** Returns what the nodes have answered since the last round, at most once per node. */
  async #exchangeAll(polls: readonly StoredPoll[]): Promise<Reading[]> {
    const { registries, log } = this.#options;
    for (const [address, registry] of registries()) {
      if (this.#exchanges.has(registry)) continue;
      const exchange = registry
        .exchange(polls)
        .then((contents) => void this.#readings.push({ address, registry, contents }))
        .catch((error: unknown) => log.repeated('node not read', { node: address, error }))
        .finally(() => this.#exchanges.delete(registry));
      this.#exchanges.set(registry, exchange);
    }
    const all = Promise.all(this.#exchanges.values());
    await withDeadline(all, EXCHANGE_MS_MAX, 'the nodes').catch(() => undefined);
    const readings = this.#readings;
    this.#readings = [];
    for (const { address, contents } of readings) this.#nodes.set(address, describe(contents));
    for (const address of this.#nodes.keys()) if (!registries().has(address)) this.#nodes.delete(address);
    return readings;
  }

  async #enrolNew(readings: readonly Reading[]): Promise<void> {
    const { db, log } = this.#options;
    for (const { registry, contents } of readings) {
      if (contents.id !== undefined) continue;
      await this.#try('node not enrolled', async () => {
        const id = await registry.proposeId();
        if (id === undefined) return;
        await insertNode(db, id);
        // Read after the insert: a poll that closes now awaits this node, and one that has closed is closed here too.
        await registry.enrol(id, await readStoredPolls(db));
        log.info('node enrolled', { id });
      });
    }
  }

  /** Stores the images of all polls in every enrolled node, and deletes others there. Polls are shown without missing images. */
  async #mirrorImages(readings: readonly Reading[], polls: readonly StoredPoll[]): Promise<void> {
    const named = imagesOf(polls);
    const enrolled = readings.filter(({ contents }) => contents.id !== undefined);
    const missingIn = ({ contents }: Reading) => [...named.difference(new Set(contents.images))];
    const missing = new Set(enrolled.flatMap(missingIn));
    const images = missing.size > 0 ? await readImages(this.#options.db, [...missing]) : new Map();
    for (const { registry, contents } of enrolled) {
      const added = new Map([...images].filter(([name]) => !contents.images.includes(name)));
      // A node may hold newer polls than a Postgres that was restored.
      const kept = named.union(imagesOf(contents.polls));
      const deleted = contents.images.filter((name) => !kept.has(name));
      if (added.size === 0 && deleted.length === 0) continue;
      await this.#try('images not stored', () => registry.putImages(added, deleted));
    }
  }

  /** Adopts what is in the nodes and not in Postgres, after it was restored from a backup. */
  async #adopt(readings: readonly Reading[], polls: readonly StoredPoll[]): Promise<void> {
    const stored = new Map(polls.map((poll) => [poll.id, poll]));
    const newer = readings
      .flatMap(({ contents }) => contents.polls)
      .filter(({ id, revision, isForgotten }) => {
        const poll = stored.get(id);
        return revision > (poll?.revision ?? 0) || (isForgotten && !poll?.isForgotten);
      });
    const adopted = await adoptPolls(this.#options.db, newer);
    if (adopted.length > 0) this.#options.log.warn('polls adopted from nodes', { polls: adopted });
  }

  /**
   * @param closed the polls that are closed and not final
   * @param server see `mirrorNodes`
   * @returns the sources of these readings whose fence is recorded
   */
  async #mirror(readings: readonly Reading[], closed: ReadonlySet<string>, server: string): Promise<Fenced> {
    const { db, log } = this.#options;
    const enrolled = byNode(readings);
    for (const { id, clockSkewMs } of enrolled.values()) {
      if (Math.abs(clockSkewMs) > CLOCK_SKEW_MS_MAX) log.repeated('clock skew', { node: id, clockSkewMs });
    }
    await mirrorNodes(db, [...enrolled.values()], server);
    const fenced = await readFenced(
      db,
      readings.flatMap(({ contents }) => [...contents.ledger.keys()]),
    );
    await this.#recordFences(readings, fenced);
    await recordClosings(
      db,
      readings.flatMap(({ contents: { id: nodeId, polls } }) =>
        nodeId === undefined
          ? []
          : polls
              .filter(({ id, isClosed }) => isClosed && closed.has(id))
              .map(({ id: poll, revision }) => ({ nodeId, poll, revision })),
      ),
      server,
    );
    // Seals of final polls stay in the nodes until their source is forgotten.
    const seals = readings.flatMap(({ contents }) => contents.seals.filter(({ poll }) => closed.has(poll)));
    await recordSeals(
      db,
      seals.map(({ source, poll, seal }) => ({ source, poll, ...seal })),
    );
    return fenced;
  }

  /** Records the fences that are set in Redis, also those set by a worker that died before it could record them. */
  async #recordFences(readings: readonly Reading[], recorded: Fenced): Promise<void> {
    const { db, log } = this.#options;
    const missing = new Map(
      readings.flatMap(({ contents }) =>
        [...contents.ledger].filter(([source]) => contents.fenced.has(source) && !recorded.has(source)),
      ),
    );
    for (const source of await recordFences(db, missing)) log.warn('source fenced', { source });
  }

  async #fenceOverdue(readings: readonly Reading[]): Promise<void> {
    const overdue = await readOverdueSources(this.#options.db);
    const fencing = readings.map(async ({ registry, contents: { id } }) => {
      const sources = id === undefined ? undefined : overdue.get(id);
      if (id === undefined || !sources) return;
      await this.#try('sources not fenced', () => registry.fence(id, sources));
    });
    await Promise.all(fencing);
  }

  async #retire(readings: readonly Reading[]): Promise<void> {
    const { db, log } = this.#options;
    const retiring = await readRetiringNodes(db);
    for (const { registry, contents } of readings) {
      const { id, retiredId, isBack } = contents;
      if (id !== undefined && retiring.has(id)) await this.#try('node not fenced', () => registry.retire(id));
      if (retiredId === undefined) continue;
      if (await finishRetirement(db, retiredId)) log.info('node retired', { id: retiredId });
      if (!retiring.has(retiredId))
        await this.#try('node not released', () => registry.releaseRetired(isBack));
    }
  }

  async #fold(): Promise<void> {
    for (let fold = 0; fold < FOLDS_PER_ROUND_MAX; fold += 1) {
      if ((await foldReceipts(this.#options.db)) === 0) return;
    }
  }

  async #forget(readings: readonly Reading[], fenced: Fenced): Promise<void> {
    for (const { registry, contents } of readings) {
      const done = [...contents.ledger.keys()].filter((source) => fenced.get(source)?.isForgettable);
      await this.#try('sources not forgotten', () => registry.forget(done, contents.seals));
    }
  }

  async #deleteForgotten(): Promise<void> {
    const { db, log } = this.#options;
    for (const poll of await forgetExpired(db)) log.info('poll forgotten', { poll });
    const deadline = performance.now() + DELETION_MS_MAX;
    while ((await deleteForgotten(db)) > 0 && performance.now() < deadline);
  }

  /** A node that fails must not keep the round from the others. */
  async #try(failure: string, act: () => Promise<void>): Promise<void> {
    try {
      await act();
    } catch (error) {
      this.#options.log.repeated(failure, { error });
    }
  }
}

function describe({ id, clockSkewMs, ledger, seals, fenced, polls }: NodeContents): CoordinatedNode {
  const own = ledger.keys().find((source) => nodeOf(source).id === id);
  return {
    id,
    name: own && nodeOf(own).name,
    clockSkewMs,
    seals: seals.length,
    fences: fenced.size,
    pollRevisions: new Map(polls.map((poll) => [poll.id, poll.revision])),
  };
}

type Fenced = Awaited<ReturnType<typeof readFenced>>;

/**
 * Returns the readings by node. A node reached by two addresses is read twice, and an upsert cannot write a row twice. Then
 * the entries of both readings count: each may have stored a close in the node, after which no source may be overlooked.
 */
function byNode(readings: readonly Reading[]): Map<string, NodeReading> {
  const nodes = new Map<string, NodeReading>();
  for (const { contents } of readings) {
    const { clockSkewMs } = contents;
    const ageMs = performance.now() - contents.readAt;
    // Of a node that is being retired, the last jobs are still to be mirrored.
    const id = contents.id ?? contents.retiredId;
    if (id === undefined) continue;
    const ledger = new Map(nodes.get(id)?.ledger);
    for (const [source, entry] of contents.ledger) {
      // Only its own: a handler may write anything into its node's ledger.
      if (nodeOf(source).id !== id) continue;
      if (entry.seq >= (ledger.get(source)?.seq ?? 0)) ledger.set(source, entry);
    }
    const [source] = ledger.keys();
    nodes.set(id, { id, name: source && nodeOf(source).name, ageMs, clockSkewMs, ledger });
  }
  return nodes;
}
