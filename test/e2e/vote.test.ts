import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { type IncomingMessage, request } from 'node:http';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { enrolNode } from '#kit/node.ts';
import { scratchFolder } from '#kit/process.ts';
import { sendBytes } from '#kit/raw-http.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { spawnService, startService, type TestService, VOTER_KEY, voteEnv } from '#kit/system.ts';
import { until } from '#kit/until.ts';
import { VOTE_NODE_FLAGS } from '#runtime/node-flags.ts';

const VOTES = '/polls/cats-vs-dogs/votes';
const ANSWER_MS_MAX = 5_000;
const HEAD = `POST ${VOTES} HTTP/1.1\r\nHost: vote.test\r\nContent-Type: application/json\r\n`;

let folder: Awaited<ReturnType<typeof scratchFolder>>;
let redis: TestRedis;
let handler: TestService;
const started: TestService[] = [];

beforeAll(async () => {
  folder = await scratchFolder();
  redis = await startRedis();
  await enrolNode(redis.client);
  handler = await startService({ bundle: 'vote', env: voteEnv('shared', redis.socket), folder: folder.path });
});
afterEach(async () => {
  await Promise.all(started.splice(0).map((service) => service.end()));
});
afterAll(async () => {
  await handler.end();
  await redis.remove();
  await folder.remove();
});

async function start(name: string, env: Record<string, string> = {}): Promise<TestService> {
  const service = await startService({
    bundle: 'vote',
    name,
    env: { ...voteEnv(name, redis.socket), ...env },
    folder: folder.path,
  });
  started.push(service);
  return service;
}

const castVote = (service: TestService) =>
  fetch(`${service.url}${VOTES}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"choice":"cats"}',
  });

/** A connection stays with one process; a new connection may reach another. */
async function castVoteOverNewConnection({ port }: TestService): Promise<void> {
  const headers = { 'content-type': 'application/x-www-form-urlencoded' };
  const signal = AbortSignal.timeout(ANSWER_MS_MAX);
  const sent = request({ port, path: VOTES, method: 'POST', agent: false, headers, signal });
  sent.end('choice=cats');
  const [answer] = (await once(sent, 'response')) as [IncomingMessage];
  answer.resume();
  await once(answer, 'end');
}

/** Votes concurrently, because a single idle process could accept sequential connections alone. */
async function castVotesOverNewConnections(service: TestService): Promise<void> {
  await Promise.allSettled(Array.from({ length: 32 }, () => castVoteOverNewConnection(service)));
}

const ledgerOf = async (node: string) =>
  Object.entries(await redis.client.hgetall('turnout:ledger'))
    .filter(([source]) => source.startsWith(`${node}-`))
    .map(([, entry]) => Number(entry.split(':')[1]));
const votesOf = async (node: string) => (await ledgerOf(node)).reduce((sum, votes) => sum + votes, 0);

const statusOf = (answer: string) => Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1]);

describe('malformed bytes', () => {
  test.each<[string, number, string]>([
    ['that are not HTTP', 400, 'hello\r\n\r\n'],
    [
      'with both a length and chunks',
      400,
      `${HEAD}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    ],
    ['with two lengths', 400, `${HEAD}Content-Length: 17\r\nContent-Length: 18\r\n\r\n{"choice":"cats"}`],
    ['with a length that is not a number', 400, `${HEAD}Content-Length: 1x\r\n\r\n`],
    ['with a NUL in a header', 400, `${HEAD}X: a\0b\r\n\r\n`],
    ['with a folded header', 400, `${HEAD}X: a\r\n b\r\nContent-Length: 0\r\n\r\n`],
    [
      'with too many header bytes',
      431,
      `${HEAD}${'X-Flood: aaaaaaaaaaaaaaaaaaaaaaaa\r\n'.repeat(1_000)}\r\n`,
    ],
    ['without a host', 400, `POST ${VOTES} HTTP/1.1\r\nContent-Length: 0\r\n\r\n`],
  ])('%s get %i', async (_, status, bytes) => {
    const before = await votesOf('shared');
    expect(statusOf(await sendBytes(handler.port, bytes))).toBe(status);
    expect(await votesOf('shared')).toBe(before);
  });

  test('that declare a body of 10 MB get 413 before the body is read', async () => {
    const answer = await sendBytes(
      handler.port,
      `${HEAD}Content-Length: 10485760\r\n\r\n{"choice":"`,
      (text) => text.includes('}'),
    );
    expect(statusOf(answer)).toBe(413);
    expect(answer).toMatch(/connection: close/i);
  });

  test('with a body that never ends are cut off by a time-out', async () => {
    const answer = await sendBytes(handler.port, `${HEAD}Content-Length: 17\r\n\r\n{"cho`);
    expect(['', 'HTTP/1.1 408 Request Timeout']).toContain(answer.split('\r\n', 1)[0]);
  });

  test('with headers that never end are cut off by a time-out', async () => {
    const answer = await sendBytes(handler.port, `POST ${VOTES} HTTP/1.1\r\nHost: vote.test\r\nX-Slow: `);
    expect(['', 'HTTP/1.1 408 Request Timeout']).toContain(answer.split('\r\n', 1)[0]);
  });

  test('leave the handler working', async () => {
    expect(handler.child.exitCode).toBeNull();
    expect((await castVote(handler)).status).toBe(202);
  });
});

describe('the public port', () => {
  test.each([
    '/healthz',
    '/startupz',
    '/readyz',
    '/metrics',
    '/polls',
    '/../etc/passwd',
    '/%00',
    '/polls/%E0%A4%A',
  ])('answers 404 at %s', async (path) => {
    expect((await fetch(`${handler.url}${path}`)).status).toBe(404);
  });
});

describe('the admin port', () => {
  test('serves health, readiness and metrics', async () => {
    await castVote(handler);
    expect((await fetch(`${handler.adminUrl}/healthz`)).status).toBe(200);
    expect(await (await fetch(`${handler.adminUrl}/readyz`)).json()).toEqual({ status: 'ready' });
    const metrics = await (await fetch(`${handler.adminUrl}/metrics`)).text();
    expect(metrics).toMatch(/^turnout_votes_captured_total\{process="vote"\} [1-9]/m);
    expect(metrics).toMatch(/^process_cpu_seconds_total\{process="vote"\} /m);
  });

  test('reports why the handler is not ready while Redis is down, and votes get 503 at once', async () => {
    const own = await startRedis();
    try {
      await enrolNode(own.client);
      const service = await start('lonely', { REDIS_URL: own.socket });
      await own.down('SIGKILL');
      const answer = await until('the handler is not ready', async () => {
        const readiness = await fetch(`${service.adminUrl}/readyz`);
        return readiness.status === 503 && readiness;
      });
      expect(await answer.json()).toEqual({
        status: 'not ready',
        reason: { queue: 'the queue is not connected' },
      });
      const refused = await castVote(service);
      expect(refused.status).toBe(503);
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
      expect(await refused.json()).toMatchObject({ code: 'not_captured' });
      await own.up();
      await until('the handler accepts votes again', async () => (await castVote(service)).status === 202);
    } finally {
      await own.remove();
    }
  });
});

describe('on SIGTERM', () => {
  test('writes every vote answered 202 to the queue, and exits', async () => {
    const service = await start('ending');
    let accepted = 0;
    let isOver = false;
    const client = async (): Promise<void> => {
      while (!isOver) {
        try {
          const answer = await castVote(service);
          await answer.text();
          if (answer.status === 202) accepted += 1;
        } catch {
          isOver = true;
        }
      }
    };
    const clients = Promise.all(Array.from({ length: 16 }, client));
    await until('votes flow', () => accepted > 200);
    expect(await service.end('SIGTERM')).toBe(0);
    await clients;
    expect(await votesOf('ending')).toBe(accepted);
  });
});

describe('with WEB_CONCURRENCY=2', () => {
  test('each process is a source, inherits the Node flags, and is replaced when it is killed', async () => {
    const service = await start('many', { WEB_CONCURRENCY: '2' });
    await until('both have captured votes', async () => {
      await castVotesOverNewConnections(service);
      return (await ledgerOf('many')).length === 2;
    });
    const total = await until('the metrics of both are aggregated', async () => {
      const metrics = await (await fetch(`${service.adminUrl}/metrics`)).text();
      return Number(/^turnout_votes_captured_total\{process="vote"\} (\d+)/m.exec(metrics)?.[1]) || undefined;
    });
    expect(total).toBe(await votesOf('many'));

    const log = await service.output();
    const pids = await childrenOf(service.child.pid ?? 0);
    expect(pids).toHaveLength(2);
    for (const pid of pids)
      expect(await commandLineOf(pid)).toEqual(expect.arrayContaining([...VOTE_NODE_FLAGS]));
    expect(log).not.toContain(VOTER_KEY);
    process.kill(pids[0] ?? 0, 'SIGKILL');
    await until('a third source has captured votes', async () => {
      await castVotesOverNewConnections(service);
      return (await ledgerOf('many')).length === 3;
    });
    await until('the handler is ready again', async () => (await fetch(`${service.adminUrl}/readyz`)).ok);
    expect(await service.end('SIGTERM')).toBe(0);
    expect(await childrenOf(service.child.pid ?? 0)).toEqual([]);
  });

  test('a SIGINT to all of them, as Ctrl-C sends, stops all gracefully', async () => {
    const service = await start('interrupted', { WEB_CONCURRENCY: '2' });
    const pids = await childrenOf(service.child.pid ?? 0);
    for (const pid of pids) process.kill(pid, 'SIGINT');
    expect(await service.end('SIGINT')).toBe(0);
    const log = await service.output();
    expect(log.match(/"stopped"/g)).toHaveLength(3);
  });
});

describe('an invalid configuration', () => {
  test('makes the process exit with one line that lists every fault and no secret', async () => {
    const service = await spawnService({
      bundle: 'vote',
      name: 'wrong',
      env: { VOTER_KEY: 'hunter2', REDIS_URL: 'nonsense', VOTES_PER_JOB_MAX: 'many' },
      folder: folder.path,
    });
    await once(service.child, 'exit');
    expect(service.child.exitCode).toBe(1);
    const [line = ''] = (await service.output()).split('\n');
    expect(line).toMatch(/REDIS_URL must be .*VOTER_KEY must be .*VOTES_PER_JOB_MAX must be /);
    expect(line).not.toContain('hunter2');
  });

  test('with a port in use is reported with the port', async () => {
    const service = await spawnService({
      bundle: 'vote',
      name: 'taken',
      env: { ...voteEnv('taken', redis.socket), PORT: String(handler.port) },
      folder: folder.path,
    });
    await once(service.child, 'exit');
    expect(service.child.exitCode).toBe(1);
    expect(await service.output()).toContain(`port ${handler.port} cannot be used (EADDRINUSE)`);
  });
});

/** Returns the arguments that a process was started with. */
async function commandLineOf(pid: number): Promise<string[]> {
  return (await readFile(`/proc/${pid}/cmdline`, 'utf8')).split('\0');
}

async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  return text.split(' ').filter(Boolean).map(Number);
}
