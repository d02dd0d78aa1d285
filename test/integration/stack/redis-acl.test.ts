import { readFile } from 'node:fs/promises';
import { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NodeQueues } from '#audit/queues.ts';
import { createBoard } from '#handlers/dashboard/board.ts';
import { NodeReader, registerSource } from '#handlers/vote/node.ts';
import { PollBook } from '#handlers/vote/polls.ts';
import { VoteQueue } from '#handlers/vote/queue.ts';
import { APPLIED_KEY, IMAGES_KEY, jobKey, NODE_KEY, sourceName } from '#job';
import { openCapture } from '#kit/capture.ts';
import { startDrain } from '#kit/drain.ts';
import { type GuardedRedis, type GuardedUser, startGuardedRedis } from '#kit/guarded-redis.ts';
import { PIXEL, PIXEL_NAME } from '#kit/images.ts';
import { enrolFor } from '#kit/ledger.ts';
import { recordLog } from '#kit/log.ts';
import { changePoll, enrolNode, fenceSources } from '#kit/node.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { storedVotes } from '#kit/tables.ts';
import { until } from '#kit/until.ts';
import { batch, POLL, vote } from '#kit/votes.ts';
import { connectFailingFast } from '#runtime/redis.ts';
import { NodeRegistry } from '#workers/node-registry.ts';

const NODE_ID = 'aaaaaaaaaaaaa';
const SOURCE = sourceName('frontend01', NODE_ID, 't0-1');
const JOB = `bull:votes:${jobKey(SOURCE, 1)}`;

let redis: GuardedRedis;
const cleanups: (() => unknown)[] = [];

beforeEach(async () => {
  redis = await startGuardedRedis();
  cleanups.push(() => redis.remove());
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

/** A connection as one of the users, or unauthenticated. */
function connectAs(user: GuardedUser | undefined): Redis {
  const options = user ? redis.address(user).options : { path: redis.socket };
  // Sends nothing of its own: Redis would close an unauthenticated connection before the test's first command.
  const client = new Redis({ ...options, protocol: 2, enableReadyCheck: false, disableClientInfo: true });
  client.on('error', () => {});
  cleanups.push(() => client.disconnect());
  return client;
}

/** Commands that Redis has refused so far, except optional ones that clients try on every server. */
async function refusals(): Promise<string[]> {
  const entries = (await redis.client.call('ACL', 'LOG')) as unknown[];
  return entries
    .map((entry) => JSON.stringify(entry))
    .filter((text) => !text.toLowerCase().includes('client|setinfo'));
}

/** Captures the votes of these voters as the handler does, one job each. */
async function captureVotes(voters: readonly number[]): Promise<void> {
  const { capture, close } = await openCapture(redis.url('vote'), SOURCE, 1);
  for (const voter of voters) await capture.capture(vote(voter, 'cats', voter));
  await close();
}

async function openDatabase(): Promise<TestDatabase> {
  const database = await createDatabase();
  cleanups.push(() => database.remove());
  return database;
}

/** Drains the node, which is that of the source. */
async function drain(database: TestDatabase) {
  await redis.client.set(NODE_KEY, NODE_ID);
  const drained = await startDrain({ db: database.db, sockets: [redis.url('worker')] });
  cleanups.push(() => drained.stop());
}

type Command = readonly [name: string, ...args: string[]];

async function expectRefused(client: Redis, commands: readonly Command[]): Promise<void> {
  for (const [name, ...args] of commands) {
    await expect(client.call(name, ...args), [name, ...args].join(' ')).rejects.toThrow(
      /^(NOPERM|NOAUTH) |^ERR DEBUG command not allowed|can't (run this command|access at least one)/,
    );
  }
}

/** Refused to every user. */
const ALWAYS_REFUSED: readonly Command[] = [
  ['FLUSHALL'],
  ['FLUSHDB'],
  ['CONFIG', 'SET', 'appendfsync', 'no'],
  ['CONFIG', 'REWRITE'],
  ['KEYS', '*'],
  ['DEBUG', 'SLEEP', '0'],
  ['SHUTDOWN', 'NOSAVE'],
  ['BGREWRITEAOF'],
  ['ACL', 'LIST'],
  ['ACL', 'SETUSER', 'vote', 'allcommands'],
  ['CLIENT', 'KILL', 'TYPE', 'normal'],
  ['CLIENT', 'PAUSE', '1'],
  ['MONITOR'],
  ['REPLICAOF', 'NO', 'ONE'],
  ['MODULE', 'LIST'],
  ['SCRIPT', 'FLUSH'],
  ['FUNCTION', 'FLUSH'],
  ['SUBSCRIBE', 'x'],
  ['PUBLISH', 'x', 'y'],
  ['SET', 'other', 'x'],
  ['GET', 'other'],
  ['HSET', 'bull:other:meta', 'x', 'y'],
  ['DEL', 'turnout:ledger'],
  ['DEL', 'turnout:sealed'],
  ['RENAME', 'turnout:ledger', 'bull:votes:x'],
];
const OTHERS_LEDGER: Command = ['HSET', 'turnout:ledger', SOURCE, '9:9'];
const OTHERS_SEAL: Command = ['HSET', 'turnout:sealed', `${SOURCE}/${POLL}`, '1:9'];
const OTHERS_APPLIED: Command = ['HSET', 'turnout:applied', SOURCE, '{}'];

test('captured jobs survive a crash under the rules', async () => {
  await captureVotes([1, 2]);
  await redis.down();
  await redis.up();
  await until('Redis is back', () => redis.client.status === 'ready');
  expect(await redis.client.lrange('bull:votes:wait', 0, -1)).toEqual([jobKey(SOURCE, 2), jobKey(SOURCE, 1)]);
  expect(await redis.client.hget(JOB, 'data')).toContain('cats');
  expect(await redis.client.hgetall('turnout:ledger')).toEqual({ [SOURCE]: '2:2' });
});

describe('the vote handler', () => {
  test('captures votes, repeats a write under the same key, and captures while the queue is paused', async () => {
    await redis.client.hset('bull:votes:meta', 'paused', '1');
    await captureVotes([1, 2]);
    expect(await redis.client.lrange('bull:votes:wait', 0, -1)).toEqual([
      jobKey(SOURCE, 2),
      jobKey(SOURCE, 1),
    ]);
    const queue = new VoteQueue(connectFailingFast(redis.address('vote')), recordLog().log);
    cleanups.push(() => queue.close());
    await until('the queue is open', () => queue.fault === undefined);
    const batches = [batch(3, [vote(3, 'dogs', 3)], SOURCE)];
    const seals = [{ poll: POLL, revision: 1, seq: 2 }];
    for (const _ of [1, 2])
      await queue.write({ source: SOURCE, batches, ledger: { seq: 3, votes: 3 }, seals });
    expect(await redis.client.llen('bull:votes:wait')).toBe(3);
    expect(await redis.client.hgetall('turnout:ledger')).toEqual({ [SOURCE]: '3:3' });
    expect(await redis.client.hgetall('turnout:sealed')).toEqual({ [`${SOURCE}/${POLL}`]: '1:2' });
    expect(await refusals()).toEqual([]);
  });

  test('registers at an enrolled node, reads its polls, and obeys its fence', async () => {
    await enrolNode(redis.client, { id: NODE_ID });
    const client = connectFailingFast(redis.address('vote'));
    const { log } = recordLog();
    const queue = new VoteQueue(client, log);
    cleanups.push(() => queue.close());
    const registration = {
      nodeName: 'frontend01',
      epoch: 't0-1',
      fault: () => queue.fault,
      onWait: () => {},
    };
    expect(await registerSource({ redis: client, ...registration, log })).toBe(SOURCE);
    const polls = new PollBook(log);
    let fences = 0;
    const onFenced = () => {
      fences += 1;
    };
    const reader = new NodeReader({ redis: client, source: SOURCE, polls, log, onTick: () => {}, onFenced });
    cleanups.push(() => reader.stop());
    await reader.start();
    expect(polls.get(POLL)?.revision).toBe(1);
    await redis.client.hset(IMAGES_KEY, PIXEL_NAME, PIXEL);
    await changePoll(redis.client, POLL, { choices: [{ id: 'cats', label: 'Cats', image: PIXEL_NAME }] });
    await until('the image is read', () => polls.image(PIXEL_NAME) !== undefined);
    expect(fences).toBe(0);
    const isRecorded = async () => (await redis.client.hexists(APPLIED_KEY, SOURCE)) === 1;
    await until('what it has applied is recorded', isRecorded);
    await fenceSources(redis.client, SOURCE);
    await until('the fence is read', () => fences > 0);
    expect(await refusals()).toEqual([]);
  });

  test('refuses votes while its Redis is unsafe, and accepts them again afterwards', async () => {
    const queue = new VoteQueue(connectFailingFast(redis.address('vote')), recordLog().log);
    cleanups.push(() => queue.close());
    await redis.client.config('SET', 'appendfsync', 'everysec');
    await redis.client.call('CLIENT', 'KILL', 'USER', 'vote');
    await until('it is unfit', () => queue.fault?.includes('appendfsync is everysec'));
    await redis.client.config('SET', 'appendfsync', 'always');
    await until('it is open', () => queue.fault === undefined);
    expect(await refusals()).toEqual([]);
  });

  test('accepts no vote on a Redis whose default user could not replay it', async () => {
    const { log, lines } = recordLog();
    const queue = new VoteQueue(connectFailingFast(redis.address('vote')), log);
    cleanups.push(() => queue.close());
    await redis.client.call('ACL', 'SETUSER', 'default', 'reset', 'off');
    await redis.client.call('CLIENT', 'KILL', 'USER', 'vote');
    const fault = 'its default user cannot replay the append-only file';
    await until('it is unfit', () => queue.fault?.includes(fault));
    expect(lines.filter((line) => JSON.stringify(line).includes(fault))).toHaveLength(1);
    await redis.client.call('ACL', 'SETUSER', 'default', '~*', '&*', '+@all');
    await until('it is open', () => queue.fault === undefined);
    expect(await refusals()).toEqual([]);
  });

  test('cannot remove jobs, list keys, read the ledger, enrol, fence or change polls, in a script or outside', async () => {
    await captureVotes([1]);
    const client = connectAs('vote');
    const forbidden: readonly Command[] = [
      ['HGETALL', JOB],
      ['HMGET', JOB, 'data'],
      ['LRANGE', 'bull:votes:wait', '0', '-1'],
      ['LPOP', 'bull:votes:wait'],
      ['SCAN', '0'],
      ['SORT', 'bull:votes:wait', 'BY', 'x'],
      ['COPY', JOB, 'bull:votes:x'],
      ['DUMP', JOB],
      ['DEL', JOB],
      ['UNLINK', JOB],
      ['EXPIRE', JOB, '1'],
      ['SET', JOB, 'x'],
      ['HDEL', JOB, 'data'],
      ['RENAME', JOB, 'bull:votes:x'],
      ['LPUSH', 'bull:votes:failed', 'x'],
      ['XRANGE', 'bull:votes:events', '-', '+'],
      ['HGETALL', 'turnout:ledger'],
      ['HDEL', 'turnout:ledger', SOURCE],
      ['HGET', 'turnout:ledger', SOURCE],
      ['LPUSH', 'turnout:ledger', 'x'],
      ['HGETALL', 'turnout:sealed'],
      ['HDEL', 'turnout:sealed', 'x'],
      ['SET', 'turnout:node', 'x'],
      ['SET', 'turnout:candidate', 'x'],
      ['HSET', 'turnout:polls', 'x', 'y'],
      ['SMEMBERS', 'turnout:fenced'],
      ['SADD', 'turnout:fenced', 'x'],
      ['SREM', 'turnout:fenced', SOURCE],
    ];
    await expectRefused(client, [...ALWAYS_REFUSED, ...forbidden]);
    // It may run any script, because BullMQ loads its own; the rules also apply inside scripts.
    const byScript = forbidden.map(([name, ...args]): Command => {
      const list = [name, ...args].map((text) => `'${text}'`).join(',');
      return ['EVAL', `return redis.call(${list})`, '0'];
    });
    await expectRefused(client, byScript);
    await expectRefused(client, [['EVAL', "return redis.call('FLUSHALL')", '0']]);
    expect(await client.call('EVAL', 'return 1', '0')).toBe(1);
    expect(await redis.client.hget(JOB, 'data')).toContain('cats');
  });
});

describe('the worker', () => {
  test('drains, including unreadable jobs, and mirrors the ledger', async () => {
    const database = await openDatabase();
    await captureVotes([1, 2, 3]);
    await redis.client.hset(`bull:votes:${jobKey(SOURCE, 2)}`, 'data', '{');
    await drain(database);
    await until('two are counted', async () => (await storedVotes(database.db)).size === 2);
    await until('one has failed', async () => (await redis.client.zcard('bull:votes:failed')) === 1);
    await until('the others are gone', async () => !(await redis.client.exists(JOB)));
    await until('the ledger is mirrored', async () => {
      const row = await database.db.selectFrom('sources').selectAll().executeTakeFirst();
      return row?.accepted_seq === 3;
    });
    expect(await refusals()).toEqual([]);
  });

  test('delays a job of another format version and counts it later', async () => {
    const database = await openDatabase();
    await captureVotes([1]);
    const data = (await redis.client.hget(JOB, 'data')) as string;
    await redis.client.hset(JOB, 'data', '{"v":3}');
    await drain(database);
    await until('it is delayed', async () => (await redis.client.zcard('bull:votes:delayed')) === 1);
    await redis.client.hset(JOB, 'data', data);
    await until('it is counted', async () => (await storedVotes(database.db)).size === 1);
    expect(await refusals()).toEqual([]);
  });

  test('takes over a job of a dead worker', async () => {
    const database = await openDatabase();
    await captureVotes([1]);
    // The state after a worker died: the job is active and its lock has expired.
    await redis.client.multi().rpop('bull:votes:wait').lpush('bull:votes:active', jobKey(SOURCE, 1)).exec();
    await drain(database);
    await until('it is counted', async () => (await storedVotes(database.db)).size === 1);
    expect(await refusals()).toEqual([]);
  });

  test('enrols a node, writes polls, fences sources, and removes the entries of fenced ones', async () => {
    await captureVotes([1]);
    const client = connectAs('worker');
    const registry = new NodeRegistry(client);
    await redis.client.del(NODE_KEY);
    const id = (await registry.proposeId()) as string;
    const poll = {
      id: POLL,
      question: 'Cats or dogs?',
      choices: [],
      revision: 1,
      isClosed: false,
      position: 0,
    };
    await registry.enrol(id, [poll]);
    expect(await registry.exchange([{ ...poll, isClosed: true }])).toMatchObject({
      id,
      polls: [{ revision: 1, isClosed: true }],
      ledger: new Map([[SOURCE, { seq: 1, votes: 1 }]]),
    });
    expect(await registry.owns(sourceName('x', id, 't0-1'))).toBe(true);
    await registry.fence(id, [SOURCE]);
    await registry.retire(id);
    expect(await registry.exchange([])).toMatchObject({ id: undefined, fenced: new Set([SOURCE]) });
    await registry.releaseRetired(false);
    await registry.releaseRetired(true);
    await redis.client.hset(APPLIED_KEY, SOURCE, '{}');
    await registry.forget([SOURCE], [{ source: SOURCE, poll: POLL, seal: { revision: 1, seq: 1 } }]);
    expect((await redis.client.keys('turnout:*')).toSorted()).toEqual(['turnout:polls']);
    expect(await refusals()).toEqual([]);
  });

  test('cannot write the ledger or seals, access other keys or administer the server', async () => {
    await captureVotes([1]);
    const client = connectAs('worker');
    await expectRefused(client, [
      ...ALWAYS_REFUSED,
      OTHERS_LEDGER,
      OTHERS_SEAL,
      OTHERS_APPLIED,
      ['EVAL', `return redis.call('HSET', 'turnout:ledger', '${SOURCE}', '9:9')`, '0'],
      ['EVAL', 'return 1', '1', 'turnout:ledger'],
      ['CONFIG', 'GET', 'appendfsync'],
      ['SCAN', '0'],
      ['CLIENT', 'LIST'],
    ]);
    expect(await client.hgetall('turnout:ledger')).toEqual({ [SOURCE]: '1:1' });
  });
});

describe('the dashboard', () => {
  test('reads, pauses, resumes, promotes and retries', async () => {
    await enrolFor(redis.client, SOURCE);
    await captureVotes([1, 2, 3]);
    await redis.client.multi().rpop('bull:votes:wait').zadd('bull:votes:failed', 1, jobKey(SOURCE, 1)).exec();
    await redis.client
      .multi()
      .rpop('bull:votes:wait')
      .zadd('bull:votes:delayed', Date.now() * 2 * 0x1000, jobKey(SOURCE, 2))
      .exec();
    const board = createBoard('/queues');
    const queues = new NodeQueues({
      discover: async () => [redis.address('dashboard')],
      log: recordLog().log,
      onChange: board.show,
    });
    cleanups.push(() => queues.close());
    await queues.follow();
    await until('the node answers', () => queues.all[0]?.fault === undefined && queues.all[0]?.host);

    const node = await queues.all[0]?.read(true);
    expect(node).toMatchObject({ waiting: 1, delayed: 1, failed: 1, appendOnlyFile: 'on' });
    expect(node?.oldestMs).toBeGreaterThanOrEqual(0);
    expect(node?.oldestMs).toBeLessThan(60_000);
    expect(node?.jobs?.failed).toEqual([jobKey(SOURCE, 1)]);
    expect(node?.ledger.get(SOURCE)).toEqual({ seq: 3, votes: 3 });

    const ask = async (path: string, method = 'GET') => {
      const answer = await board.app.request(`/api/queues${path}`, { method });
      expect(answer.status, path).toBeLessThan(300);
      return answer.text();
    };
    await until('the board knows it by name', async () => (await ask('')).includes('frontend01.votes'));
    for (const state of ['latest', 'waiting', 'delayed', 'failed', 'active']) {
      expect(await ask(`?activeQueue=frontend01.votes&status=${state}`)).toContain('frontend01.votes');
    }
    expect(await ask(`/frontend01.votes/${jobKey(SOURCE, 3)}`)).toContain('cats');
    await ask('/frontend01.votes/pause', 'PUT');
    expect(await redis.client.hget('bull:votes:meta', 'paused')).toBe('1');
    await ask('/frontend01.votes/resume', 'PUT');
    expect(await redis.client.hget('bull:votes:meta', 'paused')).toBeNull();
    await ask('/frontend01.votes/retry/failed', 'PUT');
    await ask(`/frontend01.votes/${jobKey(SOURCE, 2)}/promote`, 'PUT');
    await until('all wait again', async () => (await redis.client.llen('bull:votes:wait')) === 3);

    await redis.client.multi().rpop('bull:votes:wait').zadd('bull:votes:failed', 1, jobKey(SOURCE, 1)).exec();
    await redis.client.hset(JOB, 'finishedOn', '1');
    await ask(`/frontend01.votes/${jobKey(SOURCE, 1)}/retry`, 'PUT');
    expect(await redis.client.llen('bull:votes:wait')).toBe(3);
    expect(await refusals()).toEqual([]);
  });

  test('cannot delete a job or write the ledger', async () => {
    await captureVotes([1]);
    await expectRefused(connectAs('dashboard'), [
      ...ALWAYS_REFUSED,
      OTHERS_LEDGER,
      OTHERS_SEAL,
      OTHERS_APPLIED,
      ['HDEL', 'turnout:ledger', SOURCE],
      ['DEL', JOB],
      ['UNLINK', JOB],
      ['EXPIRE', JOB, '1'],
      ['LREM', 'bull:votes:wait', '0', jobKey(SOURCE, 1)],
      ['LPOP', 'bull:votes:wait'],
      ['LTRIM', 'bull:votes:wait', '1', '0'],
      ['ZREM', 'bull:votes:completed', jobKey(SOURCE, 1)],
      ['EVAL', `return redis.call('DEL', '${JOB}')`, '0'],
      ['CONFIG', 'GET', 'appendfsync'],
    ]);
    expect(await redis.client.exists(JOB)).toBe(1);
  });
});

describe('any other client', () => {
  test('can do nothing without a password', async () => {
    await captureVotes([1]);
    await expectRefused(connectAs(undefined), [
      ...ALWAYS_REFUSED,
      OTHERS_LEDGER,
      ['PING'],
      ['INFO'],
      ['HGETALL', JOB],
      ['EVAL', 'return 1', '0'],
      ['CONFIG', 'GET', 'appendfsync'],
    ]);
  });

  test("cannot log in with another user's password, as the default user, or without one", async () => {
    const { vote: password } = redis.passwords;
    const client = connectAs(undefined);
    for (const [user, word] of [
      ['worker', password],
      ['default', password],
      ['default', ''],
      ['test', password],
    ] as const) {
      await expect(client.call('AUTH', user, word), user).rejects.toThrow('WRONGPASS');
    }
  });
});

test('the rendered rules hold no password', async () => {
  const acl = await readFile(`${redis.folder}/users.acl`, 'utf8');
  for (const password of Object.values(redis.passwords)) expect(acl).not.toContain(password);
});
