import { Redis } from 'ioredis';
import { sql } from 'kysely';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { commitBatches } from '#db/commit.ts';
import { closePoll, forgetPoll } from '#db/control.ts';
import { readAwaited } from '#db/final.ts';
import { readNodes, requestRetirement, writeOffNode } from '#db/nodes.ts';
import { applyPollsFile } from '#db/polls.ts';
import { readResults } from '#db/results.ts';
import {
  FENCED_KEY,
  IMAGES_KEY,
  LEDGER_KEY,
  NODE_KEY,
  nodeOf,
  POLLS_KEY,
  SEALED_KEY,
  sourceName,
} from '#job';
import { PIXEL, PIXEL_NAME } from '#kit/images.ts';
import { recordLog } from '#kit/log.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { storedVotes } from '#kit/tables.ts';
import { until } from '#kit/until.ts';
import { batch, POLL, vote } from '#kit/votes.ts';
import { parseStoredPoll } from '#runtime/polls.ts';
import { Coordinator } from '#workers/coordinator.ts';
import { NodeRegistry } from '#workers/node-registry.ts';

const OPERATOR = { who: 'ada', why: 'the machine is sold' };

let database: TestDatabase;
let redises: TestRedis[];
let registries: Map<string, NodeRegistry>;
let coordinator: Coordinator;
let lines: readonly Record<string, unknown>[];
const clients: Redis[] = [];

beforeEach(async () => {
  database = await createDatabase();
  redises = await Promise.all([startRedis(), startRedis()]);
  registries = new Map();
  for (const { socket } of redises) {
    const client = new Redis(socket, {
      enableOfflineQueue: false,
      maxRetriesPerRequest: 0,
      lazyConnect: true,
    });
    client.on('error', () => {});
    await client.connect();
    clients.push(client);
    registries.set(socket, new NodeRegistry(client));
  }
  const recorded = recordLog();
  lines = recorded.lines;
  coordinator = new Coordinator({ db: database.db, registries: () => registries, log: recorded.log });
});
afterEach(async () => {
  await coordinator.stop();
  for (const client of clients.splice(0)) client.disconnect();
  await Promise.all(redises.map((redis) => redis.remove()));
  await database.remove();
});

const messages = () => lines.map(({ message }) => message);
const idOf = (redis: TestRedis) => redis.client.get(NODE_KEY);
const pollIn = async (redis: TestRedis) =>
  parseStoredPoll(POLL, (await redis.client.hget(POLLS_KEY, POLL)) ?? '');
const finalAt = async () =>
  (await readResults(database.db)).polls.find(({ poll }) => poll === POLL)?.finalAt ?? null;
const close = () =>
  database.db.updateTable('polls').set({ closes_at: new Date() }).where('id', '=', POLL).execute();
const commit = (seq: number, source: string) =>
  commitBatches(database.db, [batch(seq, [vote(seq, 'cats', 0)], source)], 1);

/** Registers a source on a node as a handler does. */
async function register(redis: TestRedis, epoch = 't0-1', name = 'host'): Promise<string> {
  const source = sourceName(name, (await idOf(redis)) as string, epoch);
  await redis.client.hset(LEDGER_KEY, source, '0:0');
  return source;
}

describe('enrolment', () => {
  test('gives each node an id of its own, after its row and its polls are stored', async () => {
    await coordinator.round();
    const ids = await Promise.all(redises.map(idOf));
    expect(new Set(ids).size).toBe(2);
    expect((await readNodes(database.db)).map(({ id }) => id).toSorted()).toEqual(ids.toSorted());
    for (const redis of redises) expect(await pollIn(redis)).toMatchObject({ revision: 1, isClosed: false });
  });

  test('is done once by workers that race, and not again after a restart of the node', async () => {
    const others = [1, 2].map(
      () => new Coordinator({ db: database.db, registries: () => registries, log: recordLog().log }),
    );
    await database.db.deleteFrom('leases').execute();
    await Promise.all([coordinator, ...others].map((each) => each.round()));
    const [redis] = redises as [TestRedis];
    const id = await idOf(redis);
    await redis.down('SIGKILL');
    await redis.up();
    await coordinator.round();
    expect(await idOf(redis)).toBe(id);
    expect(await readNodes(database.db)).toHaveLength(2);
  });

  test('keeps two nodes of the same host name apart', async () => {
    await coordinator.round();
    const [one, two] = redises as [TestRedis, TestRedis];
    await register(one);
    await register(two);
    await coordinator.round();
    expect((await readNodes(database.db)).map(({ name, sources }) => ({ name, sources }))).toEqual([
      { name: 'host', sources: 1 },
      { name: 'host', sources: 1 },
    ]);
  });

  test('stores the images of polls in each node, and deletes those that no poll names', async () => {
    const pixel = Buffer.from(PIXEL, 'base64');
    const [node] = redises as [TestRedis];
    const images = () => node.client.hgetallBuffer(IMAGES_KEY);
    const apply = (version: number, image?: string) =>
      applyPollsFile(database.db, {
        version,
        polls: [{ id: 'drawn', question: 'Drawn?', choices: [{ id: 'a', label: 'A', image }] }],
        images: new Map(image === undefined ? [] : [[image, pixel]]),
      });
    expect(await apply(2, PIXEL_NAME)).toBe('applied');
    for (let round = 0; round < 2; round += 1) await coordinator.round();
    expect(await images()).toEqual({ [PIXEL_NAME]: pixel });
    // As after a loss of the node.
    await node.client.del(IMAGES_KEY);
    await coordinator.round();
    expect(await images()).toEqual({ [PIXEL_NAME]: pixel });
    expect(await apply(3)).toBe('applied');
    expect(await database.db.selectFrom('images').selectAll().execute()).toEqual([]);
    for (let round = 0; round < 2; round += 1) await coordinator.round();
    expect(await images()).toEqual({});
  });

  test('stores the close of a poll in a node whose row was stored before it', async () => {
    await close();
    await coordinator.round();
    expect(await pollIn(redises[0] as TestRedis)).toMatchObject({ isClosed: true });
  });
});

describe('a closed poll', () => {
  test('is final once all sources have sealed and their jobs are counted', async () => {
    await coordinator.round();
    const sources = await Promise.all(redises.map((redis) => register(redis)));
    await close();
    await coordinator.round();
    expect(await pollIn(redises[1] as TestRedis)).toMatchObject({ isClosed: true });
    await Promise.all(
      redises.map(async ({ client }, index) => {
        await client.hset(LEDGER_KEY, sources[index] as string, '1:1');
        await client.hset(SEALED_KEY, `${sources[index]}/${POLL}`, '1:1');
      }),
    );
    await coordinator.round();
    expect(await finalAt()).toBeNull();
    for (const source of sources) await commit(1, source);
    await coordinator.round();
    expect(await finalAt()).not.toBeNull();
    expect(messages()).toContain('poll final');
  });

  test('waits for a node that cannot be read, however long, until an operator writes it off', async () => {
    await coordinator.round();
    const [, gone] = redises as [TestRedis, TestRedis];
    const source = await register(gone);
    const { id } = nodeOf(source);
    await gone.down('SIGKILL');
    await close();
    for (let round = 0; round < 3; round += 1) await coordinator.round();
    expect(await finalAt()).toBeNull();
    expect((await readAwaited(database.db)).get(POLL)).toMatchObject({ nodes: [id] });
    await writeOffNode(database.db, id, OPERATOR);
    await coordinator.round();
    expect(await finalAt()).not.toBeNull();
  });

  test('is final without a source that neither seals nor exits: it is fenced, and its later jobs are discarded', async () => {
    await coordinator.round();
    const [one] = redises as [TestRedis];
    const source = await register(one);
    await one.client.hset(LEDGER_KEY, source, '1:1');
    await close();
    await coordinator.round();
    await database.db
      .updateTable('closings')
      .set({ read_at: new Date(Date.now() - 6_000) })
      .execute();
    await coordinator.round();
    expect(await one.client.smembers(FENCED_KEY)).toEqual([source]);
    await coordinator.round();
    expect(messages()).toContain('source fenced');
    expect(await finalAt()).toBeNull();
    await commit(1, source);
    expect(await commit(2, source)).toMatchObject({ discarded: 1 });
    await coordinator.round();
    expect(await finalAt()).not.toBeNull();
    // Kept for as long as a backup without it may be restored; then forgotten, so that the node's keys are bounded.
    await coordinator.round();
    expect(await one.client.exists(LEDGER_KEY, FENCED_KEY)).toBe(2);
    const monthAgo = new Date(Date.now() - 31 * 24 * 3_600_000);
    await database.db.updateTable('sources').set({ fenced_at: monthAgo }).execute();
    await coordinator.round();
    expect(await one.client.exists(LEDGER_KEY, FENCED_KEY)).toBe(0);
  });

  test('is opened in a node by a higher revision only, and never by a slow worker', async () => {
    await close();
    await coordinator.round();
    const [one] = redises as [TestRedis];
    const registry = registries.get(one.socket) as NodeRegistry;
    const poll = (await pollIn(one)) as NonNullable<Awaited<ReturnType<typeof pollIn>>>;
    await registry.exchange([{ ...poll, isClosed: false }]);
    expect(await pollIn(one)).toMatchObject({ revision: 1, isClosed: true });
    await registry.exchange([{ ...poll, revision: 2, isClosed: false }]);
    expect(await pollIn(one)).toMatchObject({ revision: 2, isClosed: false });
    await registry.exchange([poll]);
    expect(await pollIn(one)).toMatchObject({ revision: 2, isClosed: false });
    await registry.exchange([{ ...poll, revision: 2, isClosed: true }]);
    await registry.exchange([{ ...poll, revision: 2, isClosed: false, isForgotten: true }]);
    expect(await pollIn(one)).toMatchObject({ revision: 2, isClosed: true });
  });

  test('keeps the mark of a forgotten poll in a node, which a restored backup may lack', async () => {
    await coordinator.round();
    const [one] = redises as [TestRedis];
    const registry = registries.get(one.socket) as NodeRegistry;
    const poll = (await pollIn(one)) as NonNullable<Awaited<ReturnType<typeof pollIn>>>;
    await registry.exchange([{ ...poll, isForgotten: true }]);
    await registry.exchange([{ ...poll, revision: poll.revision + 1, isForgotten: false }]);
    expect(await pollIn(one)).toMatchObject({ revision: poll.revision + 1, isForgotten: true });
  });
});

describe('retirement', () => {
  test('fences all sources, takes the id, and ends once all jobs are counted', async () => {
    await coordinator.round();
    const [one] = redises as [TestRedis];
    const source = await register(one);
    const { id } = nodeOf(source);
    await one.client.hset(LEDGER_KEY, source, '1:1');
    expect(await requestRetirement(database.db, id, OPERATOR)).toBe('done');
    await coordinator.round();
    expect(await idOf(one)).toBeNull();
    expect(await one.client.smembers(FENCED_KEY)).toEqual([source]);
    await coordinator.round();
    const state = async () => (await readNodes(database.db)).find((node) => node.id === id)?.state;
    expect(await state()).toBe('retiring');
    await commit(1, source);
    for (let round = 0; round < 3; round += 1) await coordinator.round();
    expect(await state()).toBe('retired');
    expect(await idOf(one)).toBeNull();
    expect(await one.client.ttl('turnout:candidate')).toBeGreaterThan(0);
  });

  test('waits for the jobs of a source that was never read before', async () => {
    await coordinator.round();
    const [one] = redises as [TestRedis];
    const id = (await idOf(one)) as string;
    const source = await register(one);
    await one.client.hset(LEDGER_KEY, source, '1:1');
    await requestRetirement(database.db, id, OPERATOR);
    await (registries.get(one.socket) as NodeRegistry).retire(id);
    for (let round = 0; round < 3; round += 1) await coordinator.round();
    const state = async () => (await readNodes(database.db)).find((node) => node.id === id)?.state;
    expect(await state()).toBe('retiring');
    await commit(1, source);
    for (let round = 0; round < 3; round += 1) await coordinator.round();
    expect(await state()).toBe('retired');
  });

  test('is not finished while the node has not been fenced in its Redis', async () => {
    await coordinator.round();
    const [one] = redises as [TestRedis];
    const id = (await idOf(one)) as string;
    await one.down('SIGKILL');
    await requestRetirement(database.db, id, OPERATOR);
    await coordinator.round();
    await coordinator.round();
    expect((await readNodes(database.db)).find((node) => node.id === id)?.state).toBe('retiring');
  });

  test('is followed by enrolment under a new id once its Redis is started again', async () => {
    await coordinator.round();
    const [one] = redises as [TestRedis];
    const id = (await idOf(one)) as string;
    await requestRetirement(database.db, id, OPERATOR);
    for (let round = 0; round < 3; round += 1) await coordinator.round();
    expect(await idOf(one)).toBeNull();
    await one.down();
    await one.up();
    const next = await until('the node is enrolled', async () => {
      await coordinator.round();
      return (await idOf(one)) ?? undefined;
    });
    expect(next).not.toBe(id);
  });
});

test('after a restore of Postgres, nodes and higher revisions are adopted from the nodes', async () => {
  await coordinator.round();
  const [one] = redises as [TestRedis];
  const source = await register(one);
  await one.client.hset(LEDGER_KEY, source, '1:1');
  const poll = (await pollIn(one)) as NonNullable<Awaited<ReturnType<typeof pollIn>>>;
  await (registries.get(one.socket) as NodeRegistry).exchange([
    { ...poll, revision: 5, question: 'Restored?' },
  ]);
  await database.db.deleteFrom('sources').execute();
  await database.db.deleteFrom('nodes').execute();
  await coordinator.round();
  expect((await readNodes(database.db)).map(({ id }) => id)).toContain(nodeOf(source).id);
  expect((await readResults(database.db)).polls[0]).toMatchObject({ question: 'Restored?' });
  expect(messages()).toContain('polls adopted from nodes');
});

test('the votes of a forgotten poll are deleted, and again in a Postgres restored from a backup', async () => {
  await coordinator.round();
  const [one] = redises as [TestRedis];
  const source = await register(one);
  await commit(1, source);
  await one.client.hset(LEDGER_KEY, source, '1:1');
  await one.client.hset(SEALED_KEY, `${source}/${POLL}`, '2:1');
  expect(await closePoll(database.db, POLL, OPERATOR)).toEqual({ outcome: 'done' });
  for (let round = 0; round < 3 && (await finalAt()) === null; round += 1) await coordinator.round();
  expect(await forgetPoll(database.db, POLL, OPERATOR)).toEqual({ outcome: 'done' });
  const votes = async () => (await storedVotes(database.db)).size;
  expect(await votes()).toBe(1);
  await coordinator.round();
  expect(await votes()).toBe(0);
  expect(await pollIn(one)).toMatchObject({ revision: 2, isClosed: true, isForgotten: true });

  // What a backup from before the command holds.
  await database.db.updateTable('polls').set({ forgotten_at: null, forgotten_to: null }).execute();
  const [poll, choice] = [sql`(select no from polls where id = ${POLL})`, 1];
  await sql`insert into votes values (1, gen_random_uuid(), ${poll}, ${choice})`.execute(database.db);
  await coordinator.round();
  await coordinator.round();
  expect(await votes()).toBe(0);
});

test('the clock of each node is measured, and one that is a second off is reported', async () => {
  await coordinator.round();
  const [one, two] = redises as [TestRedis, TestRedis];
  const registry = registries.get(one.socket) as NodeRegistry;
  const exchange = registry.exchange.bind(registry);
  // A Redis reads the clock of its machine, which the test shares: its answer is changed here.
  registry.exchange = async (polls) => ({ ...(await exchange(polls)), clockSkewMs: -5_000 });
  await coordinator.round();
  const skews = new Map((await readNodes(database.db)).map(({ id, clockSkewMs }) => [id, clockSkewMs]));
  expect(skews.get((await idOf(one)) as string)).toBe(-5_000);
  expect(Math.abs(skews.get((await idOf(two)) as string) ?? Number.NaN)).toBeLessThan(1_000);
  expect(lines.filter(({ message }) => message === 'clock skew')).toEqual([
    expect.objectContaining({ level: 'warn', node: await idOf(one), clockSkewMs: -5_000 }),
  ]);
});

test('a node that two addresses reach is mirrored with the sources of both readings', async () => {
  await coordinator.round();
  const [one] = redises as [TestRedis];
  const registry = registries.get(one.socket) as NodeRegistry;
  const source = await register(one);
  await one.client.hset(LEDGER_KEY, source, '3:30');
  // An older reading, from before the source registered, may come first or last.
  const older = { exchange: async () => ({ ...(await registry.exchange([])), ledger: new Map() }) };
  const alias = older as unknown as NodeRegistry;
  registries = new Map([['before', alias], ...registries, ['after', { ...alias } as NodeRegistry]]);
  await coordinator.round();
  expect((await readResults(database.db)).ledger.accepted).toBe(30);
  expect(messages()).not.toContain('coordination failed, retrying');
});

test('what a node claims of the sources of another node is ignored', async () => {
  await coordinator.round();
  const [one, two] = redises as [TestRedis, TestRedis];
  const source = await register(two);
  await one.client.hset(LEDGER_KEY, source, '9:90');
  await coordinator.round();
  expect((await readResults(database.db)).ledger.accepted).toBe(0);
  expect(messages()).not.toContain('coordination failed, retrying');
});

test('a node that does not answer does not keep the others from being read', async () => {
  await coordinator.round();
  const [, silent] = redises as [TestRedis, TestRedis];
  silent.process.child.kill('SIGSTOP');
  const source = await register(redises[0] as TestRedis);
  await redises[0]?.client.hset(LEDGER_KEY, source, '4:40');
  await coordinator.round();
  expect((await readResults(database.db)).ledger.accepted).toBe(40);
  silent.process.child.kill('SIGCONT');
});

test('stands by while another process holds the lease, and takes over when it is released', async () => {
  await coordinator.round();
  const { log, lines: standbyLines } = recordLog();
  const standby = new Coordinator({ db: database.db, registries: () => registries, log });
  await standby.round();
  expect(standbyLines).toEqual([]);
  await coordinator.stop();
  await standby.round();
  expect(standbyLines).toMatchObject([{ message: 'lease acquired', lease: 'coordinator' }]);
  await standby.stop();
});
