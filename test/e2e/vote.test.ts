import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { type IncomingMessage, request } from 'node:http';
import { connect, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { scratchFolder } from '#kit/process.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { spawnService, startService, type TestService, VOTER_KEY, voteEnv } from '#kit/system.ts';
import { until } from '#kit/until.ts';

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

/** One connection always meets the same process; a new one may meet another. */
async function castVoteOverNewConnection({ port }: TestService): Promise<void> {
  const headers = { 'content-type': 'application/x-www-form-urlencoded' };
  const signal = AbortSignal.timeout(ANSWER_MS_MAX);
  const sent = request({ port, path: VOTES, method: 'POST', agent: false, headers, signal });
  sent.end('choice=cats');
  const [answer] = (await once(sent, 'response')) as [IncomingMessage];
  answer.resume();
  await once(answer, 'end');
}

/** Several at once: one process alone would be quick enough for one after the other. */
async function castVotesOverNewConnections(service: TestService): Promise<void> {
  await Promise.allSettled(Array.from({ length: 32 }, () => castVoteOverNewConnection(service)));
}

const ledgerOf = async (node: string) =>
  Object.entries(await redis.client.hgetall('turnout:ledger'))
    .filter(([source]) => source.startsWith(`${node}.`))
    .map(([, entry]) => Number(entry.split(':')[1]));
const votesOf = async (node: string) => (await ledgerOf(node)).reduce((sum, votes) => sum + votes, 0);

/** Sends bytes as they are, and gives all that comes back until the server closes or `isDone` says so. */
async function talk(bytes: string, isDone: (answer: string) => boolean = () => false): Promise<string> {
  const socket: Socket = connect(handler.port, '127.0.0.1');
  let answer = '';
  let isClosed = false;
  socket.on('data', (data) => {
    answer += data.toString('latin1');
  });
  socket.on('close', () => {
    isClosed = true;
  });
  socket.on('error', () => {});
  await once(socket, 'connect');
  socket.write(bytes);
  await until('the answer, or the end of the connection', () => isClosed || isDone(answer));
  socket.destroy();
  return answer;
}

const statusOf = (answer: string) => Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1]);

describe('bytes that are no honest request', () => {
  test.each<[string, number, string]>([
    ['no HTTP', 400, 'hello\r\n\r\n'],
    [
      'both a length and chunks',
      400,
      `${HEAD}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    ],
    ['two lengths', 400, `${HEAD}Content-Length: 17\r\nContent-Length: 18\r\n\r\n{"choice":"cats"}`],
    ['a length that is no number', 400, `${HEAD}Content-Length: 1x\r\n\r\n`],
    ['a NUL in a header', 400, `${HEAD}X: a\0b\r\n\r\n`],
    ['a folded header', 400, `${HEAD}X: a\r\n b\r\nContent-Length: 0\r\n\r\n`],
    ['a header flood', 431, `${HEAD}${'X-Flood: aaaaaaaaaaaaaaaaaaaaaaaa\r\n'.repeat(1_000)}\r\n`],
    ['no host', 400, `POST ${VOTES} HTTP/1.1\r\nContent-Length: 0\r\n\r\n`],
  ])('%s get %i', async (_, status, bytes) => {
    const before = await votesOf('shared');
    expect(statusOf(await talk(bytes))).toBe(status);
    expect(await votesOf('shared')).toBe(before);
  });

  test('a body of 10 MB is refused before it is read', async () => {
    const answer = await talk(`${HEAD}Content-Length: 10485760\r\n\r\n{"choice":"`, (text) =>
      text.includes('}'),
    );
    expect(statusOf(answer)).toBe(413);
    expect(answer).toMatch(/connection: close/i);
  });

  test('a body that never ends, with headers that came slowly, is cut off by a time-out', async () => {
    const answer = await talk(`${HEAD}Content-Length: 17\r\n\r\n{"cho`);
    expect(['', 'HTTP/1.1 408 Request Timeout']).toContain(answer.split('\r\n', 1)[0]);
  });

  test('headers that never end are cut off by a time-out', async () => {
    const answer = await talk(`POST ${VOTES} HTTP/1.1\r\nHost: vote.test\r\nX-Slow: `);
    expect(['', 'HTTP/1.1 408 Request Timeout']).toContain(answer.split('\r\n', 1)[0]);
  });

  test('leave the handler as it was', async () => {
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
  ])('has nothing at %s', async (path) => {
    expect((await fetch(`${handler.url}${path}`)).status).toBe(404);
  });
});

describe('the admin port', () => {
  test('tells health, readiness and measures', async () => {
    await castVote(handler);
    expect((await fetch(`${handler.adminUrl}/healthz`)).status).toBe(200);
    expect(await (await fetch(`${handler.adminUrl}/readyz`)).json()).toEqual({ status: 'ready' });
    const metrics = await (await fetch(`${handler.adminUrl}/metrics`)).text();
    expect(metrics).toMatch(/^turnout_votes_captured_total\{process="vote"\} [1-9]/m);
    expect(metrics).toMatch(/^process_cpu_seconds_total\{process="vote"\} /m);
  });

  test('says why the handler is not ready while its Redis is away, and votes get 503 at once', async () => {
    const own = await startRedis();
    try {
      const service = await start('lonely', { REDIS_URL: own.socket });
      await own.down('SIGKILL');
      const answer = await until('it is not ready', async () => {
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
      await until('it takes votes again', async () => (await castVote(service)).status === 202);
    } finally {
      await own.remove();
    }
  });
});

describe('on SIGTERM', () => {
  test('every vote that was answered 202 is in the queue, and the process ends by itself', async () => {
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

describe('with several processes behind one port', () => {
  test('all take votes as sources of their own, and one that is killed is replaced', async () => {
    const service = await start('many', { WEB_CONCURRENCY: '2' });
    await until('both have votes', async () => {
      await castVotesOverNewConnections(service);
      return (await ledgerOf('many')).length === 2;
    });
    const total = await until('the metrics of both are added up', async () => {
      const metrics = await (await fetch(`${service.adminUrl}/metrics`)).text();
      return Number(/^turnout_votes_captured_total\{process="vote"\} (\d+)/m.exec(metrics)?.[1]) || undefined;
    });
    expect(total).toBe(await votesOf('many'));

    const log = await service.output();
    const pids = await childrenOf(service.child.pid ?? 0);
    expect(pids).toHaveLength(2);
    expect(log).not.toContain(VOTER_KEY);
    process.kill(pids[0] ?? 0, 'SIGKILL');
    await until('there is a third source', async () => {
      await castVotesOverNewConnections(service);
      return (await ledgerOf('many')).length === 3;
    });
    await until('it is ready again', async () => (await fetch(`${service.adminUrl}/readyz`)).ok);
    expect(await service.end('SIGTERM')).toBe(0);
    expect(await childrenOf(service.child.pid ?? 0)).toEqual([]);
  });

  test('Ctrl-C, which all of them get, stops all in order', async () => {
    const service = await start('interrupted', { WEB_CONCURRENCY: '2' });
    const pids = await childrenOf(service.child.pid ?? 0);
    for (const pid of pids) process.kill(pid, 'SIGINT');
    expect(await service.end('SIGINT')).toBe(0);
    const log = await service.output();
    expect(log.match(/"stopped"/g)).toHaveLength(3);
  });
});

describe('a wrong configuration', () => {
  test('ends the process with one line that lists every fault and no secret', async () => {
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

  test('names the port that is taken', async () => {
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

async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  return text.split(' ').filter(Boolean).map(Number);
}
