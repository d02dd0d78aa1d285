import { sql } from 'kysely';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { commitBatches } from '#db/commit.ts';
import { readHistory } from '#db/history.ts';
import { readEvidence, readReceipt, readResults } from '#db/results.ts';
import { createResultsApp } from '#handlers/results/app.ts';
import { Feed } from '#handlers/results/feed.ts';
import { Streams } from '#handlers/results/streams.ts';
import type { ResultView } from '#handlers/results/view.ts';
import { recordLog } from '#kit/log.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { mirrorEntry } from '#kit/tables.ts';
import { until } from '#kit/until.ts';
import { batch, SOURCE, vote } from '#kit/votes.ts';
import { listen } from '#runtime/server.ts';

let database: TestDatabase;
const cleanups: (() => unknown)[] = [];

beforeEach(async () => {
  database = await createDatabase();
  cleanups.push(() => database.remove());
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

async function serve() {
  const { db } = database;
  const { log } = recordLog();
  const outcomes: string[] = [];
  const feed = new Feed({
    read: () => readResults(db),
    readHistory: () => readHistory(db),
    log,
    onRead: (outcome) => outcomes.push(outcome),
  });
  const streams = new Streams({ feed });
  const app = createResultsApp({
    feed,
    streams,
    readReceipt: (receipt) => readReceipt(db, receipt),
    readEvidence: (poll) => readEvidence(db, poll),
    log,
  });
  const server = await listen(app, 0, { hostname: '127.0.0.1' });
  cleanups.push(
    () => feed.close(),
    () => server.close(),
    () => streams.close(),
  );
  const get = (path: string): Promise<Response> => fetch(`http://127.0.0.1:${server.port}${path}`);
  const results = async (): Promise<ResultView> =>
    (await get('/polls/cats-vs-dogs/results')).json() as Promise<ResultView>;
  return { get, results, outcomes, streams };
}

const accept = (seq: number, votes: number): Promise<void> =>
  mirrorEntry(database.db, SOURCE, { seq, votes });
const count = (seq: number, ...votes: Parameters<typeof batch>[1][number][]) =>
  commitBatches(database.db, [batch(seq, votes, SOURCE)], 0);

describe('the results', () => {
  test('are the counts of the workers', async () => {
    const { results } = await serve();
    expect(await results()).toMatchObject({ total: 0, ledger: { accepted: 0, committed: 0 } });
    await accept(2, 4);
    await count(1, vote(1, 'cats', 0), vote(2, 'dogs', 0), vote(1, 'dogs', 1));
    const view = await until('the count is seen', async () => {
      const seen = await results();
      return seen.total > 0 && seen;
    });
    expect(view).toMatchObject({
      poll: 'cats-vs-dogs',
      total: 2,
      choices: [
        { id: 'cats', votes: 0 },
        { id: 'dogs', votes: 2 },
      ],
      status: 'provisional',
      ledger: { accepted: 4, committed: 3 },
    });
  });

  test('are final as soon as the poll is, and not before', async () => {
    const { results } = await serve();
    await accept(1, 1);
    await count(1, vote(1, 'cats', 0));
    await sql`update polls set closes_at = now() - interval '1 hour', closed_at = now()`.execute(database.db);
    expect(await results()).toMatchObject({ total: 1, status: 'provisional' });
    const finalAt = new Date('2027-02-07T23:00:00.000Z');
    const result = {
      choices: [{ id: 'cats', label: 'Cats', votes: 7 }],
      sources: {},
      writtenOff: [{ id: 'bbbbbbbbbbbbb', name: 'frontend02', reason: 'its disk died' }],
    };
    await database.db
      .updateTable('polls')
      .set({ final_at: finalAt, result: JSON.stringify(result) })
      .where('id', '=', 'cats-vs-dogs')
      .execute();
    const view = await until('they are final', async () => {
      const seen = await results();
      return seen.status === 'final' && seen;
    });
    // The stored result, whatever the tallies say since.
    expect(view).toMatchObject({
      total: 7,
      choices: [{ id: 'cats', label: 'Cats', votes: 7 }],
      finalAt: finalAt.toISOString(),
      writtenOff: [{ name: 'frontend02', reason: 'its disk died' }],
    });
  });

  test('are sent as events when they change', async () => {
    const { get, streams } = await serve();
    const response = await get('/polls/cats-vs-dogs/results/stream');
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    const first = await reader?.read();
    expect(first?.value).toContain('"total":0');
    await count(1, vote(1, 'cats', 0));
    const second = await reader?.read();
    expect(second?.value).toContain('"total":1');
    await reader?.cancel();
    await until('the stream is closed', () => streams.open === 0);
  });

  test('of a poll that is embargoed while a stream is open end it within two reads, without a number', async () => {
    const { get, streams } = await serve();
    const response = await get('/polls/cats-vs-dogs/results/stream');
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    expect((await reader?.read())?.value).toContain('"total":0');
    await database.db
      .updateTable('polls')
      .set({ results: 'closed' })
      .where('id', '=', 'cats-vs-dogs')
      .execute();
    await count(1, vote(1, 'cats', 0));
    expect(await reader?.read()).toEqual({ done: true, value: undefined });
    expect(streams.open).toBe(0);
    expect((await get('/polls/cats-vs-dogs/results/stream')).status).toBe(403);
  });

  test('keep their last state and time while the database is down', async () => {
    const { results, outcomes } = await serve();
    await count(1, vote(1, 'cats', 0));
    const before = await results();
    await database.remove();
    cleanups.shift();
    await until('a read has failed', async () => {
      expect(await results()).toEqual(before);
      return outcomes.includes('failed');
    });
    expect(await results()).toEqual(before);
  });
});

describe('a receipt', () => {
  test('is unknown, then pending, then counted', async () => {
    const { get } = await serve();
    const statusOf = async (receipt: string): Promise<string> =>
      ((await (await get(`/receipts/${receipt}`)).json()) as { status: string }).status;
    expect(await statusOf(`${SOURCE}.1`)).toBe('unknown');
    await accept(1, 1);
    expect(await statusOf(`${SOURCE}.1`)).toBe('pending');
    expect(await statusOf(`${SOURCE}.2`)).toBe('unknown');
    await count(1, vote(1, 'cats', 0));
    expect(await statusOf(`${SOURCE}.1`)).toBe('counted');
    expect(await statusOf(encodeURIComponent("'; drop table votes; --.1"))).toBe('unknown');
  });
});
