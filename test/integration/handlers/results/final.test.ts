import { Queue } from 'bullmq';
import { sql } from 'kysely';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { commitBatches } from '#db/commit.ts';
import { type PollResult, readResults } from '#db/results.ts';
import { REQUEST_MS_MAX, resultView } from '#handlers/results/view.ts';
import { createVoteApp } from '#handlers/vote/app.ts';
import { createClock } from '#handlers/vote/clock.ts';
import { createVoterTokens } from '#handlers/vote/voter.ts';
import { openCapture } from '#kit/capture.ts';
import { startDrain } from '#kit/drain.ts';
import { recordLog } from '#kit/log.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { mirrorEntry } from '#kit/tables.ts';
import { until } from '#kit/until.ts';
import { batch, POLL, vote } from '#kit/votes.ts';
import type { Poll } from '#runtime/polls.ts';
import { Secret } from '#runtime/secret.ts';
import type { CommitterOptions } from '#workers/committer.ts';

const ONE = 'frontend01.t0-1';
const TWO = 'frontend02.t0-1';
const HOUR_US = 3_600_000_000;
/** SQLSTATE of data that can never be stored. */
const BAD_DATA = Object.assign(new Error('bad data'), { code: '22P02' });
/** SQLSTATE of a server that shuts down. */
const AWAY = Object.assign(new Error('the database system is shutting down'), { code: '57P01' });

const tokens = createVoterTokens(new Secret('k'.repeat(32)));

/** Long past for Postgres; the handlers' clocks, which the test controls, are before it. */
let closesAt: number;
let database: TestDatabase;
let first: TestRedis;
let second: TestRedis;
const cleanups: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  database = await createDatabase();
  [first, second] = await Promise.all([startRedis(), startRedis()]);
  cleanups.push(
    () => database.remove(),
    () => first.remove(),
    () => second.remove(),
  );
  closesAt = Date.now() - REQUEST_MS_MAX - 1_000;
  await sql`update polls set closes_at = ${new Date(closesAt)} where id = ${POLL}`.execute(database.db);
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

/** A node's handler; `now` is its clock. */
async function startHandler({ socket }: TestRedis, source: string, now: () => number) {
  const { capture, close } = await openCapture(socket, source);
  cleanups.push(close);
  const choices = [
    { id: 'cats', label: 'Cats' },
    { id: 'dogs', label: 'Dogs' },
  ];
  const polls: Poll[] = [{ id: POLL, question: 'Cats or dogs?', choices, closesAt }];
  const { log } = recordLog();
  const app = createVoteApp({ polls, capture, tokens, clock: createClock(now), admission: 'open', log, now });
  return async (token?: string) => {
    const headers = {
      'content-type': 'application/json',
      ...(token && { authorization: `Bearer ${token}` }),
    };
    const answer = await app.request(`/polls/${POLL}/votes`, {
      method: 'POST',
      body: '{"choice":"cats"}',
      headers,
    });
    return { status: answer.status, body: (await answer.json()) as Record<string, string> };
  };
}

const beforeClose = (): number => closesAt - 1;

async function drain(commit?: CommitterOptions['commit']): Promise<void> {
  const sockets = [first.socket, second.socket];
  const { stop } = await startDrain({ db: database.db, sockets, ...(commit && { commit }) });
  cleanups.push(stop);
}

/** Returns the current results. */
async function results() {
  const results = await readResults(database.db);
  const poll = results.polls.find(({ poll }) => poll === POLL) as PollResult;
  const { total, status, ledger } = resultView(poll, { results, asOf: Date.now() });
  const isLookedAt = results.observedAt !== null && results.observedAt >= closesAt + REQUEST_MS_MAX;
  return { total, status, ledger, isLookedAt };
}

const untilResults = (what: string, isRight: (seen: Awaited<ReturnType<typeof results>>) => boolean) =>
  until(what, async () => {
    const seen = await results();
    return isRight(seen) && seen;
  });
const untilFinal = () => untilResults('the results are final', ({ status }) => status === 'final');

describe('the results', () => {
  test('count votes captured before the close and committed long after, then become final', async () => {
    const votes = [await startHandler(first, ONE, beforeClose), await startHandler(second, TWO, beforeClose)];
    for (const post of votes) expect((await post()).status).toBe(202);
    expect(await results()).toMatchObject({ total: 0, status: 'provisional' });

    let isAway = true;
    await drain(async (batches, shard) => {
      if (isAway) throw AWAY;
      return commitBatches(database.db, batches, shard);
    });
    const pending = await untilResults(
      'both ledgers are read',
      ({ ledger, isLookedAt }) => ledger.accepted === 2 && isLookedAt,
    );
    expect(pending).toMatchObject({ total: 0, status: 'provisional' });
    isAway = false;
    expect(await untilFinal()).toMatchObject({ total: 2, ledger: { accepted: 2, committed: 2 } });
  });

  test('stay provisional while a job has failed, until it is retried', async () => {
    const post = await startHandler(first, ONE, beforeClose);
    await post();
    let isBad = true;
    await drain(async (batches, shard) => {
      if (isBad) throw BAD_DATA;
      return commitBatches(database.db, batches, shard);
    });
    await until('the job has failed', async () => (await first.client.zcard('bull:votes:failed')) === 1);
    const failed = await untilResults('the ledger is read', ({ isLookedAt }) => isLookedAt);
    expect(failed).toMatchObject({ total: 0, status: 'provisional' });
    isBad = false;
    const queue = new Queue('votes', { connection: first.client });
    await queue.retryJobs({ state: 'failed' });
    await queue.close();
    expect(await untilFinal()).toMatchObject({ total: 1 });
  });

  test('stay provisional while a node was last read before the close, then count its votes', async () => {
    await (await startHandler(first, ONE, beforeClose))();
    await commitBatches(database.db, [batch(1, [vote(1, 'cats', 0)], TWO)], 0);
    await mirrorEntry(database.db, TWO, { seq: 1, votes: 1 });
    await sql`update ledgers set observed_at = ${new Date(closesAt - 1)}`.execute(database.db);
    const post = await startHandler(second, TWO, beforeClose);
    // The handler captured its first job before the reading and its second after it.
    await post();
    await post();
    await second.down('SIGKILL');
    await drain();
    const settled = await untilResults('all registered votes are committed', ({ total }) => total === 2);
    await until('the other node has been read', async () => {
      const { rows } = await sql`select from ledgers where source = ${ONE}`.execute(database.db);
      return rows.length === 1;
    });
    expect(settled.ledger).toMatchObject({ committed: 2 });
    expect((await results()).status).toBe('provisional');
    await second.up();
    expect(await untilFinal()).toMatchObject({ total: 3 });
  });

  test('do not wait for a source that its node no longer has', async () => {
    const older = 'frontend01.s0-1';
    await commitBatches(database.db, [batch(1, [vote(1, 'cats', 0)], older)], 0);
    await mirrorEntry(database.db, older, { seq: 1, votes: 1 });
    await sql`update ledgers set observed_at = ${new Date(closesAt - 1)}`.execute(database.db);
    await (await startHandler(first, ONE, beforeClose))();
    await drain();
    expect(await untilFinal()).toMatchObject({ total: 2 });
  });
});

describe('a handler', () => {
  test('accepts no vote after the close by its own clock, whatever the token’s time', async () => {
    let now = closesAt - 1;
    const post = await startHandler(first, ONE, () => now);
    const ahead = tokens.sign({ id: tokens.mint().id, lastCastAt: closesAt * 1_000 + HOUR_US });
    const behind = tokens.sign({ id: tokens.mint().id, lastCastAt: closesAt * 1_000 - HOUR_US });
    const taken = await post(ahead);
    expect(taken.status).toBe(202);
    expect(Date.parse(taken.body['castAt'] as string)).toBeGreaterThan(closesAt);
    now = closesAt;
    for (const token of [ahead, behind, undefined]) {
      expect(await post(token)).toMatchObject({ status: 403, body: { code: 'poll_closed' } });
    }
    await drain();
    expect(await untilFinal()).toMatchObject({ total: 1 });
  });
});
