import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NodeQueues } from '#audit/queues.ts';
import { type Board, createBoard } from '#handlers/dashboard/board.ts';
import type { Batch, Vote } from '#job';
import { recordLog } from '#kit/log.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { until } from '#kit/until.ts';
import { addressOf, capture, fail } from './nodes.ts';

const ONE = 'frontend01-aaaaaaaaaaaaa.t0-1';
const TWO = 'frontend02-bbbbbbbbbbbbb.t0-1';

let first: TestRedis;
let second: TestRedis;
let board: Board;
let queues: NodeQueues;
const cleanups: (() => Promise<unknown>)[] = [];

beforeEach(async () => {
  [first, second] = await Promise.all([startRedis(), startRedis()]);
  cleanups.push(
    () => first.remove(),
    () => second.remove(),
  );
  await capture(first, ONE, 2);
  await capture(second, TWO, 3);
  board = createBoard('/queues');
  queues = new NodeQueues({
    discover: async () => [addressOf(first), addressOf(second)],
    log: recordLog().log,
    onChange: board.show,
  });
  cleanups.push(() => queues.close());
  await queues.follow();
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

interface ShownQueue {
  readonly name: string;
  readonly displayName: string;
  readonly description?: string;
  readonly counts: Record<string, number>;
}

async function shown(): Promise<Record<string, ShownQueue>> {
  const response = await board.app.request('/api/queues');
  expect(response.status).toBe(200);
  const { queues } = (await response.json()) as { queues: ShownQueue[] };
  return Object.fromEntries(queues.map((queue) => [queue.name, queue]));
}

const untilBothShown = () =>
  until('both are shown by name', async () => {
    const queues = await shown();
    return queues['frontend01.votes']?.counts['waiting'] === 2 && queues['frontend02.votes'] && queues;
  });

describe('the board', () => {
  test("shows every node's queue under the node's name", async () => {
    const { 'frontend01.votes': one, 'frontend02.votes': two } = await untilBothShown();
    expect(one?.displayName).toBe('frontend01');
    expect(two?.counts['waiting']).toBe(3);
  });

  test.each(['SIGKILL', 'SIGSTOP'] as const)(
    'shows the other nodes while one is down (%s)',
    async (signal) => {
      await untilBothShown();
      const { pid } = second.process.child;
      process.kill(pid as number, signal);
      const { 'frontend01.votes': one, 'frontend02.votes': two } = await until('it is down', async () => {
        const queues = await shown();
        return queues['frontend02.votes']?.displayName.startsWith('Down: ') && queues;
      });
      expect(one?.counts['waiting']).toBe(2);
      expect(two?.description).toContain('Node unreachable');
      const response = await board.app.request('/api/queues/frontend02.votes/pause', { method: 'PUT' });
      expect(response.status).toBe(503);
      if (signal === 'SIGSTOP') process.kill(pid as number, 'SIGCONT');
      else await second.down().then(() => second.up());
      await untilBothShown();
    },
  );

  test('retries failed jobs', async () => {
    await untilBothShown();
    await fail(first, ONE, 2);
    const response = await board.app.request('/api/queues/frontend01.votes/retry/failed', { method: 'PUT' });
    expect(await response.json()).toEqual({ retried: 1, skipped: 0 });
    expect((await shown())['frontend01.votes']?.counts).toMatchObject({ waiting: 2, failed: 0 });
  });

  test('refuses every action that would remove or add votes', async () => {
    await untilBothShown();
    const before = (await first.client.keys('*')).toSorted();
    for (const [method, action] of [
      ['PUT', 'empty'],
      ['PUT', 'obliterate'],
      ['PUT', 'clean/failed'],
      ['PUT', 'clean/wait'],
      ['PUT', `${ONE}.1/clean`],
      ['PATCH', `${ONE}.1/update-data`],
      ['POST', 'add'],
    ] as const) {
      const body = method === 'PUT' ? null : '{"name":"batch","data":{},"jobData":{}}';
      const response = await board.app.request(`/api/queues/frontend01.votes/${action}`, { method, body });
      expect(response.status, action).toBe(403);
    }
    expect((await first.client.keys('*')).toSorted()).toEqual(before);
  });

  test('shows a job whose votes are malformed', async () => {
    await untilBothShown();
    const votes = [[], [1], 'x', null];
    await first.client.hset(`bull:votes:${ONE}.1`, 'data', JSON.stringify({ votes }));
    const response = await board.app.request(`/api/queues/frontend01.votes/${ONE}.1`);
    expect(await response.json()).toMatchObject({ job: { data: { votes } } });
  });

  test('shows only the last digits of the ids of voters', async () => {
    await untilBothShown();
    const data = await first.client.hget(`bull:votes:${ONE}.1`, 'data');
    const [[poll, voter, ...rest]] = (JSON.parse(data ?? '{}') as Batch).votes as [Vote];
    const response = await board.app.request(`/api/queues/frontend01.votes/${ONE}.1`);
    const text = await response.text();
    expect(text).not.toContain(voter);
    expect(text).toContain(JSON.stringify([poll, `…${voter.slice(-4)}`, ...rest]));
  });

  test('does not write to a queue when it is displayed', async () => {
    await untilBothShown();
    const before = await first.client.hgetall('bull:votes:meta');
    await board.app.request(`/api/queues/frontend01.votes/${ONE}.1`);
    expect(await first.client.hgetall('bull:votes:meta')).toEqual(before);
  });

  test('serves its page and files without requests to third parties', async () => {
    const response = await board.app.request('/');
    const policy = response.headers.get('content-security-policy');
    expect(policy).toContain("default-src 'none'; script-src 'self';");
    expect(response.headers.get('cache-control')).toBe('no-store');
    const text = await response.text();
    expect(text).not.toContain('//fonts.');
    expect(text).toContain('<base href="/queues/" />');
    const files = [...text.matchAll(/(?:src|href)="(static\/[^"]+)"/g)].map(([, file]) => file);
    expect(files.length).toBeGreaterThan(3);
  });
});
