import type { Redis } from 'ioredis';
import { sql } from 'kysely';
import { LEDGER_KEY, type LedgerEntry, readLedger } from '#job';
import type { Component } from '../measure/proc.ts';
import { untilDone } from '../measure/progress.ts';
import { committedVotes } from './tables.ts';
import type { Testbed, TestbedPostgres, TestbedServer } from './testbed.ts';

/** Postgres then stores when each transaction was committed. */
const COMMIT_TIMES = ['-c', 'track_commit_timestamp=on'];

/** Frontends, a worker and a PostgreSQL, which capture and count at the same time. */
export interface TestbedSystem {
  readonly handlers: readonly TestbedServer[];
  readonly components: readonly Component[];
  readonly clients: readonly Redis[];
  readonly postgres: TestbedPostgres;
  readonly worker: TestbedServer;
}

/** Starts a whole system on this machine. */
export async function startSystem(testbed: Testbed, frontends: number): Promise<TestbedSystem> {
  const postgres = await testbed.startPostgres(COMMIT_TIMES);
  const redises = await Promise.all(Array.from({ length: frontends }, () => testbed.startRedis()));
  const sockets = redises.map(({ socket }) => socket);
  // The handlers become ready once the worker has enrolled their nodes.
  const [worker, ...handlers] = await Promise.all([
    testbed.startWorker(`worker-of-${frontends}`, sockets, postgres.url),
    ...sockets.map((socket, index) => testbed.startHandler(`bench${frontends}-${index + 1}`, socket)),
  ]);
  const components = [...handlers, ...redises, worker, postgres].map(({ component }) => component);
  return { handlers, components, clients: redises.map(({ client }) => client), postgres, worker };
}

/** Returns the totals of the ledgers of all nodes. */
export async function readLedgers(clients: readonly Redis[]): Promise<LedgerEntry> {
  const ledgers = await Promise.all(clients.map((client) => client.hgetall(LEDGER_KEY)));
  const entries = ledgers.flatMap((fields) => [...readLedger(fields).values()]);
  return entries.reduce((sum, { seq, votes }) => ({ seq: sum.seq + seq, votes: sum.votes + votes }), {
    seq: 0,
    votes: 0,
  });
}

/** Waits until every vote in the ledgers is committed. */
export async function untilCounted({ clients, postgres }: TestbedSystem): Promise<void> {
  const { votes } = await readLedgers(clients);
  await untilDone('count all votes', () => committedVotes(postgres.db), votes);
}

/** Returns how many commits the worker has made. */
export async function readCommits({ worker }: TestbedSystem): Promise<number> {
  const text = await (await fetch(`${worker.adminUrl}/metrics`)).text();
  return Number(/^turnout_commit_seconds_count(?:\{[^}]*\})? (\d+)/m.exec(text)?.[1]);
}

/** Returns the median time in milliseconds from a vote's `castAt` to its commit, of the votes cast since then. */
export async function medianLagMs({ postgres: { db } }: TestbedSystem, sinceUs: number): Promise<number> {
  const { rows } = await sql<{ ms: number }>`
    select percentile_cont(0.5) within group (
      order by extract(epoch from pg_xact_commit_timestamp(xmin))::float8 * 1000 - cast_us / 1000.0
    ) as ms
    from votes
    where cast_us >= ${sinceUs}
  `.execute(db);
  return rows[0]?.ms ?? Number.NaN;
}
