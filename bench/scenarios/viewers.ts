import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { commitBatches } from '#db/commit.ts';
import { quantile } from '#kit/quantile.ts';
import { mirrorEntry } from '#kit/tables.ts';
import { until } from '#kit/until.ts';
import { batch, SOURCE, vote } from '#kit/votes.ts';
import { readResidentBytes, startUsage } from '../measure/proc.ts';
import { Testbed, type TestbedPostgres, type TestbedServer } from '../testbed/testbed.ts';
import type { Scenario } from './scenario.ts';

/** The most streams that one process serves, see `handlers/results/streams.ts`. */
const VIEWERS = 5_000;
const FEW_VIEWERS = 100;
/** Connections opened at a time, so that the backlog of the listening socket suffices. */
const OPENED_AT_ONCE = 100;
const CHANGES_PER_ROUND = 5;
const CHANGE_INTERVAL_MS = 1_000;
const STREAM = 'GET /polls/cats-vs-dogs/results/stream HTTP/1.1\r\nHost: results.test\r\n\r\n';
const MICROS_PER_PERCENT = 10_000;

/** Open streams, and the time at which each has received its last event. */
class Viewers {
  readonly #sockets: Socket[] = [];
  readonly #receivedAt: number[] = [];

  async open(port: number, count: number): Promise<void> {
    while (this.#sockets.length < count) {
      const missing = Math.min(OPENED_AT_ONCE, count - this.#sockets.length);
      await Promise.all(Array.from({ length: missing }, () => this.#openOne(port)));
    }
    await until('all viewers have the first event', async () => this.receivedSince(0).length === count);
  }

  async #openOne(port: number): Promise<void> {
    const socket = connect(port, '127.0.0.1');
    const index = this.#sockets.push(socket) - 1;
    await once(socket, 'connect');
    socket.on('data', (data) => {
      if (data.includes('data: ')) this.#receivedAt[index] = performance.now();
    });
    socket.write(STREAM);
  }

  receivedSince(at: number): readonly number[] {
    return this.#receivedAt.filter((time) => time >= at);
  }

  close(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}

/** CPU, memory and delay of a results process while it sends every change to its viewers, one change a second. */
export const viewers: Scenario = {
  name: 'viewers',
  title: 'streams of results at one process, with a change each second',
  run: async (bench) => {
    for (const count of [FEW_VIEWERS, VIEWERS]) {
      await Testbed.use(async (testbed) => {
        const postgres = await testbed.startPostgres();
        const results = await testbed.startResults(postgres.url);
        await mirrorEntry(postgres.db, SOURCE, { seq: 0, votes: 0 });
        const open = new Viewers();
        bench.progress(`opening ${count} streams`);
        await open.open(results.port, count);
        for (let round = 1; round <= bench.rounds; round += 1) {
          bench.progress(`round ${round} of ${bench.rounds}: ${count} viewers`);
          bench.record({
            scenario: 'viewers',
            side: 'results',
            round,
            params: { viewers: count },
            passesThrough: 'PostgreSQL, Hono',
            metrics: await measureRound(postgres, results, open, { round, count }),
          });
        }
        open.close();
      });
    }
  },
};

async function measureRound(
  postgres: TestbedPostgres,
  results: TestbedServer,
  open: Viewers,
  { round, count }: { readonly round: number; readonly count: number },
) {
  const endUsage = startUsage([results.component]);
  const delays: number[] = [];
  for (let change = 0; change < CHANGES_PER_ROUND; change += 1) {
    const seq = (round - 1) * CHANGES_PER_ROUND + change + 1;
    const startedAt = performance.now();
    await commitBatches(postgres.db, [batch(seq, [vote(seq, 'cats', 0)], SOURCE)], 0);
    await until('all viewers have the change', async () => open.receivedSince(startedAt).length === count);
    delays.push(...open.receivedSince(startedAt).map((at) => at - startedAt));
    const restMs = startedAt + CHANGE_INTERVAL_MS - performance.now();
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, restMs)));
  }
  const { microsByPart, seconds, othersShare, stealShare } = endUsage();
  const sorted = delays.toSorted((a, b) => a - b);
  return {
    corePercent: (microsByPart['results'] ?? 0) / seconds / MICROS_PER_PERCENT,
    residentMegabytes: readResidentBytes(results.component.pid) / 1e6,
    p50Ms: quantile(sorted, 0.5),
    p99Ms: quantile(sorted, 0.99),
    othersPercent: othersShare * 100,
    stealPercent: stealShare * 100,
  };
}
