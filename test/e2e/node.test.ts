import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { FENCED_EXIT_CODE } from '#handlers/vote/processes.ts';
import { FENCED_KEY, LEDGER_KEY, POLLS_KEY, parseJobKey, SEALED_KEY } from '#job';
import { changePoll, enrolNode, fenceSources } from '#kit/node.ts';
import { scratchFolder } from '#kit/process.ts';
import { startProxy } from '#kit/proxy.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { spawnService, startService, type TestService, voteEnv } from '#kit/system.ts';
import { until } from '#kit/until.ts';
import { POLL } from '#kit/votes.ts';

/** The vote handler and its node's Redis, with the test in the place of the workers. */

const VOTES = `/polls/${POLL}/votes`;
/** A second, and as much as a loaded machine may add. */
const CHANGE_MS_MAX = 3_000;
const CLIENTS = 8;
const SLOW_MS = 100;

let folder: Awaited<ReturnType<typeof scratchFolder>>;
let redis: TestRedis;
const started: { end(): Promise<unknown> }[] = [];

beforeAll(async () => {
  folder = await scratchFolder();
});
beforeEach(async () => {
  redis = await startRedis();
});
afterEach(async () => {
  await Promise.all(started.splice(0).map((service) => service.end()));
  await redis.remove();
});
afterAll(() => folder.remove());

async function startHandler(env: Record<string, string> = {}): Promise<TestService> {
  const options = { bundle: 'vote', env: { ...voteEnv('one', redis.socket), ...env } } as const;
  const service = await startService({ ...options, folder: folder.path, name: `vote-${started.length}` });
  started.push(service);
  return service;
}

async function castVote({ url }: Pick<TestService, 'url'>): Promise<{ status: number; receipt: string }> {
  const answer = await fetch(`${url}${VOTES}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"choice":"cats"}',
  });
  const { receipt = '' } = (await answer.json()) as { receipt?: string };
  return { status: answer.status, receipt };
}

const untilExited = ({ child }: TestService) => until('it has exited', () => child.exitCode !== null);
const sources = () => redis.client.hkeys(LEDGER_KEY);
const onlySource = async () => (await sources())[0] ?? '';

describe('a handler on a node that is not enrolled', () => {
  test('is not ready and says why; it registers and becomes ready after the enrolment', async () => {
    const service = await spawnService({
      bundle: 'vote',
      env: voteEnv('one', redis.socket),
      folder: folder.path,
    });
    started.push(service);
    const reason = await until('it says that it waits', async () => {
      const answer = await fetch(`${service.adminUrl}/readyz`);
      const { reason } = (await answer.json()) as { reason?: Record<string, string> };
      return reason?.['node']?.includes('enrolled') && reason;
    });
    expect(reason['node']).toBe('the node is not enrolled yet: it needs a worker and Postgres once');
    expect(await redis.client.exists(LEDGER_KEY)).toBe(0);
    expect((await fetch(`${service.adminUrl}/startupz`)).status).toBe(503);

    const id = await enrolNode(redis.client);
    await until('it is ready', async () => (await fetch(`${service.adminUrl}/readyz`)).ok);
    expect(await redis.client.hgetall(LEDGER_KEY)).toEqual({ [await onlySource()]: '0:0' });
    expect(await onlySource()).toMatch(new RegExp(`^one-${id}\\.`));
    expect((await castVote(service)).status).toBe(202);
  });
});

test('a handler is in the ledger before it reads the polls', async () => {
  await enrolNode(redis.client);
  const commands: string[] = [];
  const client = redis.client.duplicate();
  const monitor = await client.monitor();
  monitor.on('monitor', (_time: string, args: string[]) =>
    commands.push(args.slice(0, 2).join(' ').toLowerCase()),
  );
  try {
    await startHandler();
    await until('the polls are read', () => commands.includes(`hgetall ${POLLS_KEY}`));
  } finally {
    monitor.disconnect();
    client.disconnect();
  }
  const registered = commands.indexOf(`hsetnx ${LEDGER_KEY}`);
  expect(registered).toBeGreaterThan(-1);
  expect(commands.indexOf(`hgetall ${POLLS_KEY}`)).toBeGreaterThan(registered);
});

describe('a poll that workers change', () => {
  test('changes within a second, without a restart, on pages and for votes', async () => {
    await enrolNode(redis.client);
    const service = await startHandler();
    const page = async () => (await fetch(`${service.url}/`, { headers: { accept: 'text/html' } })).text();
    const before = await page();
    await changePoll(redis.client, POLL, { revision: 2, question: 'Ferrets or <i>newts</i>?' });
    await until('the page shows it', async () => (await page()).includes('Ferrets'), CHANGE_MS_MAX);
    expect(before).not.toContain('Ferrets');
    expect(await page()).not.toContain('<i>');

    await changePoll(redis.client, POLL, { isClosed: true });
    await until('votes are refused', async () => (await castVote(service)).status === 403, CHANGE_MS_MAX);
    expect(await page()).toContain('This poll is closed.');

    await changePoll(redis.client, POLL, { revision: 3, isClosed: false });
    await until('votes are accepted', async () => (await castVote(service)).status === 202, CHANGE_MS_MAX);
    expect(await service.output()).toMatch(/"poll changed","poll":"cats-vs-dogs","revision":3/);
  });

  test('is sealed at the number of the last job, again after an extension, and by a new process', async () => {
    await enrolNode(redis.client);
    const service = await startHandler();
    const source = await onlySource();
    const sealed = (entry: string, of = source) =>
      until(
        `the seal is ${entry}`,
        async () => (await redis.client.hget(SEALED_KEY, `${of}/${POLL}`)) === entry,
      );
    for (let n = 1; n <= 3; n++) expect((await castVote(service)).receipt).toBe(`${source}.${n}`);
    expect(await redis.client.exists(SEALED_KEY)).toBe(0);
    await changePoll(redis.client, POLL, { isClosed: true });
    await sealed('1:3');

    await changePoll(redis.client, POLL, { revision: 2, isClosed: false });
    await until('it is open', async () => (await castVote(service)).status === 202);
    await changePoll(redis.client, POLL, { isClosed: true });
    await sealed('2:4');
    expect(await redis.client.llen('bull:votes:wait')).toBe(4);

    await startHandler();
    const next = await until('it registers', async () => (await sources()).find((name) => name !== source));
    await sealed('2:0', next);
  });
});

describe('a fenced source', () => {
  test('acknowledges no vote above its last number before the fence, answers 503, and exits', async () => {
    await enrolNode(redis.client);
    const service = await startHandler();
    const source = await onlySource();
    const statuses = new Map<number, number>();
    const acknowledged: number[] = [];
    let isOver = false;
    const client = async (): Promise<void> => {
      while (!isOver) {
        const { status, receipt } = await castVote(service).catch(() => ({ status: 0, receipt: '' }));
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
        if (status === 202) acknowledged.push(parseJobKey(receipt)?.seq ?? 0);
        if (status === 0) isOver = true;
      }
    };
    const clients = Promise.all(Array.from({ length: CLIENTS }, client));
    await until('votes flow', () => acknowledged.length > 100);
    const fence = await redis.client.multi().sadd(FENCED_KEY, source).hget(LEDGER_KEY, source).exec();
    const last = Number(String(fence?.[1]?.[1]).split(':')[0]);
    await untilExited(service);
    await clients;
    expect(service.child.exitCode).toBe(FENCED_EXIT_CODE);
    expect(Math.max(...acknowledged)).toBeLessThanOrEqual(last);
    expect(statuses.get(503)).toBeGreaterThan(0);
    const log = await service.output();
    expect(log.match(/"source fenced, exiting/g)).toHaveLength(1);
  });

  test.each<[string, (source: string) => Promise<unknown>]>([
    ['fenced', (source) => fenceSources(redis.client, source)],
    ['forgotten', (source) => redis.client.hdel(LEDGER_KEY, source)],
    ['forgotten because Redis lost its data', () => redis.client.flushall()],
  ])('that is %s while idle exits, and its successor captures once it can', async (_, fence) => {
    await enrolNode(redis.client);
    const service = await startHandler();
    await fence(await onlySource());
    await untilExited(service);
    expect(service.child.exitCode).toBe(FENCED_EXIT_CODE);
    await enrolNode(redis.client);
    expect((await castVote(await startHandler())).status).toBe(202);
  });

  test('of one of two processes leaves the other one running, and is replaced', async () => {
    await enrolNode(redis.client);
    const service = await startHandler({ WEB_CONCURRENCY: '2' });
    const [fenced = '', sibling = ''] = await until('both are registered', async () => {
      const names = await sources();
      return names.length === 2 && names;
    });
    const before = await childrenOf(service);
    await fenceSources(redis.client, fenced);
    await until('a third source is registered', async () => (await sources()).length === 3);
    await until('it is ready', async () => (await fetch(`${service.adminUrl}/readyz`)).ok);
    const after = await childrenOf(service);
    expect(after).toHaveLength(2);
    expect(after.filter((pid) => before.includes(pid))).toHaveLength(1);
    expect(service.child.exitCode).toBeNull();
    await until('the sibling captures', async () => (await castVoteAnew(service)).startsWith(sibling));
  });

  test('that was never ready does not end its siblings either', async () => {
    await enrolNode(redis.client);
    // The handlers' commands are slow, so that the fence is there before the first one has read the polls.
    const socket = join(folder.path, 'slow.sock');
    const proxy = await startProxy({ path: socket }, { path: redis.socket }, SLOW_MS);
    const client = redis.client.duplicate();
    const monitor = await client.monitor();
    let fenced: string | undefined;
    monitor.on('monitor', (_time: string, [name, , source = '']: string[]) => {
      if (name?.toLowerCase() !== 'hsetnx' || fenced) return;
      fenced = source;
      void fenceSources(redis.client, source);
    });
    try {
      const env = { ...voteEnv('one', socket), WEB_CONCURRENCY: '2' };
      const service = await startService({ bundle: 'vote', env, folder: folder.path, name: 'never-ready' });
      started.push(service);
      await until('a third source is registered', async () => (await sources()).length === 3);
      await until('it is ready', async () => (await fetch(`${service.adminUrl}/readyz`)).ok);
      expect(await service.output()).toContain(`"code":${FENCED_EXIT_CODE}`);
      await service.end();
    } finally {
      monitor.disconnect();
      client.disconnect();
      await proxy.close();
    }
  });
});

/** Votes over a new connection, which any process may accept; returns the receipt. */
async function castVoteAnew({ url }: TestService): Promise<string> {
  const answer = await fetch(`${url}${VOTES}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', connection: 'close' },
    body: '{"choice":"dogs"}',
  });
  const { receipt = '' } = (await answer.json()) as { receipt?: string };
  return receipt;
}

async function childrenOf({ child: { pid } }: TestService): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8');
  return text.split(' ').filter(Boolean).map(Number);
}
