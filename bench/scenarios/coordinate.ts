import { randomUUIDv7 } from 'node:crypto';
import { commitBatches } from '#db/commit.ts';
import { type LedgerEntry, nodeOf, sourceName, type Vote } from '#job';
import { quantile } from '#kit/quantile.ts';
import { createLog } from '#runtime/log.ts';
import { Coordinator } from '#workers/coordinator.ts';
import type { NodeContents, NodeRegistry } from '#workers/node-registry.ts';
import { Testbed, type TestbedPostgres } from '../testbed/testbed.ts';
import { type Bench, interleave, type Scenario } from './scenario.ts';

const NODES = 200;
const LANES = 2;
const VOTES_PER_COMMIT = 100;
const SECONDS = 8;
const SECONDS_QUICK = 3;
/** A disk on which every commit takes 30 ms. */
const SLOW_DISK = ['-c', 'commit_delay=30000', '-c', 'commit_siblings=0'];
const ID_CHARACTERS = 13;
const SIDES = ['commits alone', 'with the coordinator'] as const;

/** What the coordinator of many nodes costs the commits on a slow disk. The nodes are simulated: they answer at once. */
export const coordinate: Scenario = {
  name: 'coordinate',
  title: `commits of ${LANES} lanes on a disk of 30 ms per commit, beside the coordinator of ${NODES} nodes`,
  run: async (bench) => {
    await Testbed.use(async (testbed) => {
      const postgres = await testbed.startPostgres(SLOW_DISK);
      const nodes = Array.from({ length: NODES }, () => new SimulatedNode());
      for (const { round, side } of interleave(SIDES, bench.rounds)) {
        bench.progress(`${side}, round ${round}`);
        const metrics = await measure(postgres, nodes, side === SIDES[1], bench);
        bench.record({ scenario: 'coordinate', side, round, params: { nodes: NODES }, metrics });
      }
    });
  },
};

/** Answers as a node whose ledger grows with the jobs committed for it. */
class SimulatedNode {
  static #count = 0;
  readonly source: string;
  #seq = 0;

  constructor() {
    SimulatedNode.#count += 1;
    const digits = String(SimulatedNode.#count).replaceAll(
      /\d/g,
      (digit) => 'abcdefghij'[Number(digit)] as string,
    );
    this.source = sourceName('node', digits.padStart(ID_CHARACTERS, 'z'), 't0-1');
  }

  next(): number {
    this.#seq += 1;
    return this.#seq;
  }

  get registry(): NodeRegistry {
    const exchange = async (): Promise<NodeContents> => ({
      id: nodeOf(this.source).id,
      retiredId: undefined,
      isBack: false,
      polls: [],
      ledger: new Map<string, LedgerEntry>([
        [this.source, { seq: this.#seq, votes: this.#seq * VOTES_PER_COMMIT }],
      ]),
      seals: [],
      fenced: new Set(),
      images: [],
      readAt: performance.now(),
      clockSkewMs: 0,
    });
    return { exchange, forget: async () => {} } as unknown as NodeRegistry;
  }
}

async function measure(
  { db, openDb }: TestbedPostgres,
  nodes: readonly SimulatedNode[],
  isCoordinated: boolean,
  { isQuick }: Bench,
) {
  const own = openDb(1);
  const registries = new Map(nodes.map((node) => [node.source, node.registry]));
  const coordinator = new Coordinator({
    db: own,
    registries: () => registries,
    log: createLog('bench', () => {}),
  });
  if (isCoordinated) coordinator.start();
  const seconds = isQuick ? SECONDS_QUICK : SECONDS;
  const end = performance.now() + seconds * 1_000;
  const durations: number[] = [];
  let turn = 0;
  const lane = async (shard: number): Promise<void> => {
    while (performance.now() < end) {
      turn += 1;
      const node = nodes[turn % nodes.length] as SimulatedNode;
      const startedAt = performance.now();
      await commitBatches(db, [{ source: node.source, seq: node.next(), votes: makeVotes() }], shard);
      durations.push(performance.now() - startedAt);
    }
  };
  await Promise.all(Array.from({ length: LANES }, (_, shard) => lane(shard)));
  await coordinator.stop();
  await own.destroy();
  return {
    votesPerSecond: (durations.length * VOTES_PER_COMMIT) / seconds,
    p99Ms: quantile(
      durations.toSorted((a, b) => a - b),
      0.99,
    ),
  };
}

function makeVotes(): Vote[] {
  const castAt = Date.now() * 1_000;
  return Array.from({ length: VOTES_PER_COMMIT }, () => ['cats-vs-dogs', randomUUIDv7(), 'cats', castAt]);
}
