import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readAwaited } from '#db/final.ts';
import { writeOffNode } from '#db/nodes.ts';
import { readResults } from '#db/results.ts';
import { type ResultView, resultView, type ShownResult } from '#handlers/results/view.ts';
import { NODE_KEY, POLLS_KEY, sourceName } from '#job';
import { type Drain, startDrain } from '#kit/drain.ts';
import { writeEntry, writeJobs, writeSeal } from '#kit/ledger.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { mirrorEntry } from '#kit/tables.ts';
import { until } from '#kit/until.ts';
import { batch, OTHER_NODE, OTHER_SOURCE, POLL, vote } from '#kit/votes.ts';
import { parseStoredPoll } from '#runtime/polls.ts';

const OPERATOR = { who: 'ada', why: 'its disk died' };
const OTHER_POLL = 'best-snack';

let database: TestDatabase;
let redis: TestRedis;
let drain: Drain;
/** The source of the node, which the drain has enrolled. */
let source: string;
const cleanups: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  database = await createDatabase();
  redis = await startRedis();
  cleanups.push(
    () => database.remove(),
    () => redis.remove(),
  );
  drain = await startDrain({ db: database.db, sockets: [redis.socket] });
  cleanups.push(() => drain.stop());
  const id = await until('the node is enrolled', async () => (await redis.client.get(NODE_KEY)) ?? undefined);
  source = sourceName('frontend01', id, 't0-1');
  await writeEntry(redis.client, source, { seq: 0, votes: 0 });
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

async function view(): Promise<ResultView> {
  const results = await readResults(database.db);
  const poll = results.polls.find(({ poll }) => poll === POLL) as ShownResult;
  return resultView(poll, { results, asOf: 0 });
}

const untilView = (what: string, isRight: (seen: ResultView) => boolean) =>
  until(what, async () => {
    const seen = await view();
    return isRight(seen) && seen;
  });

/** Closes the poll by its time and waits until that is stored in the node. */
async function close(): Promise<void> {
  await database.db.updateTable('polls').set({ closes_at: new Date() }).where('id', '=', POLL).execute();
  await until('the node holds the poll as closed', async () => {
    const text = (await redis.client.hget(POLLS_KEY, POLL)) ?? '';
    return parseStoredPoll(POLL, text)?.isClosed;
  });
}

describe('the results', () => {
  test('are provisional until everything accepted is counted, then final whatever comes later', async () => {
    const first = batch(1, [vote(1, 'cats', 0), vote(2, 'dogs', 0)], source);
    await writeJobs(redis.client, source, [first]);
    await untilView('the votes are counted', ({ total }) => total === 2);
    await close();
    expect((await view()).status).toBe('provisional');
    await writeSeal(redis.client, source, POLL, { revision: 1, seq: 1 });
    const final = await untilView('they are final', ({ status }) => status === 'final');
    expect(final).toMatchObject({ total: 2, ledger: { accepted: 2, committed: 2 } });

    // A late vote, of a handler that ignores its own seal, and votes of another poll that wait.
    const late = batch(2, [vote(3, 'cats', 9), vote(1, 'dogs', 9), vote(4, 'wings', 9, OTHER_POLL)], source);
    await writeJobs(redis.client, source, [first, late]);
    const after = await untilView('the late votes are in Postgres', ({ ledger }) => ledger.committed === 5);
    expect({ ...after, ledger: final.ledger }).toEqual(final);
    await drain.stop();
    await mirrorEntry(database.db, source, { seq: 9, votes: 99 });
    expect(await view()).toMatchObject({ status: 'final', total: 2, ledger: { accepted: 99 } });
  });

  test('await a node that was not read since the close, and name it permanently once it is written off', async () => {
    const { db } = database;
    await mirrorEntry(db, OTHER_SOURCE, { seq: 5, votes: 8 }, Date.now() - 1_000);
    await close();
    await writeSeal(redis.client, source, POLL, { revision: 1, seq: 0 });
    await until('only the other node is awaited', async () => {
      const awaited = (await readAwaited(db)).get(POLL);
      return awaited?.nodes.join() === OTHER_NODE && awaited.unsealed.length === 0;
    });
    expect((await view()).status).toBe('provisional');
    expect(await writeOffNode(db, OTHER_NODE, OPERATOR)).toBe('done');
    const writtenOff = [{ name: 'other', reason: 'its disk died' }];
    const final = await untilView('they are final', ({ status }) => status === 'final');
    expect(final.writtenOff).toEqual(writtenOff);

    // Reading the node again revokes the write-off, but the result was made without its votes.
    await mirrorEntry(db, OTHER_SOURCE, { seq: 5, votes: 8 }, Date.now() + 60_000);
    const { written_off_at: writtenOffAt } = await db
      .selectFrom('nodes')
      .select('written_off_at')
      .where('id', '=', OTHER_NODE)
      .executeTakeFirstOrThrow();
    expect(writtenOffAt).toBe(null);
    expect(await view()).toEqual({ ...final, ledger: (await view()).ledger });
  });
});
