import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createVoterTokens } from '#handlers/vote/voter.ts';
import { type GuardedRedis, startGuardedRedis } from '#kit/guarded-redis.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { scratchFolder } from '#kit/process.ts';
import { ask, sendBytes } from '#kit/raw-http.ts';
import { applyRoles, createRoleUrls, type Role } from '#kit/roles.ts';
import { type ServiceOptions, spawnService, startService, type TestService } from '#kit/system.ts';
import { until } from '#kit/until.ts';
import { Secret } from '#runtime/secret.ts';

const VOTES = '/polls/cats-vs-dogs/votes';
const JSON_TYPE = { 'content-type': 'application/json' };
const VOTER_KEY = `voter-key-${randomBytes(24).toString('hex')}`;
const DASHBOARD_PASSWORD = `dashboard-${randomBytes(12).toString('hex')}`;
const WRONG = `wrong-${randomBytes(12).toString('hex')}`;
const ANN = `Basic ${Buffer.from(`ann:${DASHBOARD_PASSWORD}`).toString('base64')}`;
const FAULTS_OF = ['vote', 'worker', 'results', 'dashboard'] as const;

const tokens = createVoterTokens(new Secret(VOTER_KEY));

let database: TestDatabase;
let folder: Awaited<ReturnType<typeof scratchFolder>>;
let redis: GuardedRedis;
let urls: Readonly<Record<Role, string>>;
let system: Record<(typeof FAULTS_OF)[number], TestService>;
/** All processes that ever ran, and the addresses that they answered on. */
const started: (Awaited<ReturnType<typeof spawnService>> | TestService)[] = [];
/** All that anybody said: answers, pages, metrics. Logs are added at the end. */
const received: string[] = [];
const voterTokens = new Set<string>();

/** The whole system, each process as the user it should be, in Redis and in Postgres. */
beforeAll(async () => {
  database = await createDatabase();
  folder = await scratchFolder();
  redis = await startGuardedRedis();
  await applyRoles(database.url);
  urls = await createRoleUrls(database.url);
  const [vote, worker, results, dashboard] = await Promise.all(
    FAULTS_OF.map((bundle) => startService(optionsOf(bundle))),
  );
  system = { vote, worker, results, dashboard } as typeof system;
  started.push(...Object.values(system));
});
afterAll(async () => {
  await Promise.all(started.map((service) => service.end()));
  await redis?.remove();
  await database?.remove();
  await folder?.remove();
});

function optionsOf(
  bundle: (typeof FAULTS_OF)[number],
  env: Readonly<Record<string, string>> = {},
  name: string = bundle,
): ServiceOptions {
  const usual: Record<string, Record<string, string>> = {
    vote: { TURNOUT_NODE: 'one', REDIS_URL: redis.url('vote'), VOTER_KEY },
    worker: { DATABASE_URL: urls.turnout_worker, QUEUE_NODES: redis.url('worker') },
    results: { DATABASE_URL: urls.turnout_results },
    dashboard: {
      DATABASE_URL: urls.turnout_dashboard,
      QUEUE_NODES: redis.url('dashboard'),
      DASHBOARD_USERS: `ann:${DASHBOARD_PASSWORD}`,
    },
  };
  return { bundle, name, folder: folder.path, env: { LOG_LEVEL: 'debug', ...usual[bundle], ...env } };
}

/** Starts a process that fails or never becomes ready. */
async function startWrong(...options: Parameters<typeof optionsOf>) {
  const service = await spawnService(optionsOf(...options));
  started.push(service);
  return service;
}

async function request(...options: Parameters<typeof ask>): ReturnType<typeof ask> {
  const answer = await ask(...options);
  received.push(answer.body);
  for (const cookie of [answer.headers['set-cookie'] ?? []].flat()) {
    const [, token] = /turnout_voter=([^;]+)/.exec(cookie) ?? [];
    if (token) voterTokens.add(token);
  }
  return answer;
}

const castVote = (token?: string) =>
  request(
    system.vote.url,
    VOTES,
    'POST',
    { ...JSON_TYPE, ...(token && { authorization: `Bearer ${token}` }) },
    '{"choice":"cats"}',
  );

function mint(): string {
  const token = tokens.sign(tokens.mint());
  voterTokens.add(token);
  return token;
}

const logOf = (service: { output(): Promise<string> }, text: string) =>
  until(`a log says ${text}`, async () => (await service.output()).includes(text));
const hasEnded = ({ child }: { child: TestService['child'] }) =>
  until('the process has ended', () => child.exitCode !== null);

describe('a system with a password for every part', () => {
  test('captures, counts and shows votes', async () => {
    expect((await castVote()).status).toBe(202);
    expect((await castVote(mint())).status).toBe(202);
    await until('they are in the results', async () => {
      const { body } = await request(system.results.url, '/polls/cats-vs-dogs/results');
      return (JSON.parse(body) as { total: number }).total === 2;
    });
    await until('they are accounted for', async () => {
      const { body } = await request(system.dashboard.url, '/ledger', 'GET', { authorization: ANN });
      const { total } = JSON.parse(body) as { total: { accepted: number; counted: number; lost: number } };
      return total.accepted === 2 && total.counted === 2 && total.lost === 0;
    });
  });
});

describe('under faults', () => {
  const ROLES = ['turnout_worker', 'turnout_results', 'turnout_dashboard'] as const;

  test('in requests, responds', async () => {
    const token = mint();
    const cookie = `turnout_voter=${token}`;
    for (const body of ['{', '[]', '{"choice":"birds"}', 'x'.repeat(2_000), `{"choice":"${token}"}`, token]) {
      await request(system.vote.url, VOTES, 'POST', { ...JSON_TYPE, cookie }, body);
      await request(
        system.vote.url,
        VOTES,
        'POST',
        { 'content-type': token, cookie, accept: 'text/html' },
        body,
      );
    }
    for (const path of [`/${token}`, `/polls/${token}`, `/polls/${token}/votes`, `/?token=${token}`]) {
      for (const { url } of [system.vote, system.results, system.dashboard]) {
        await request(url, path, 'GET', { cookie, authorization: ANN });
        await request(url, path, 'POST', { cookie, authorization: ANN, accept: 'text/html' }, token);
      }
    }
    // The response echoes the receipt by contract; no log may contain it.
    await fetch(`${system.results.url}/receipts/${token}`);
    for (const { port } of [system.vote, system.results, system.dashboard]) {
      received.push(
        await sendBytes(port, `GET / HTTP/1.1\r\nCookie: ${cookie}\r\nAuthorization: ${ANN}\r\nX\r\n\r\n`),
      );
    }
    const forged = `${token.slice(0, -4)}AAAA`;
    voterTokens.add(forged);
    expect((await castVote(forged)).status).toBe(401);
  });

  test('in Redis, recovers after its restart', async () => {
    await logOf(system.worker, 'node reachable');
    await redis.down();
    try {
      await until('votes are refused', async () => (await castVote(mint())).status === 503);
      await logOf(system.worker, 'node unreachable');
      await readMetrics();
    } finally {
      await redis.up();
    }
    await until('votes are captured', async () => (await castVote(mint())).status === 202);
  });

  test('in a job, fails it', async () => {
    const key = 'bull:votes:broken';
    await redis.client.hset(key, { name: 'batch', data: `{"votes":"${mint()}`, opts: '{}', timestamp: '1' });
    await redis.client.multi().lpush('bull:votes:wait', 'broken').zadd('bull:votes:marker', 0, '0').exec();
    await logOf(system.worker, 'job failed permanently');
  });

  test('in Postgres, survives changed passwords and broken connections', async () => {
    await changePasswords(() => `${WRONG}x`);
    await castVote(mint());
    await logOf(system.worker, 'password authentication failed');
    await until('the results cannot be read', async () => {
      const { body } = await request(system.results.url, '/receipts/one-aaaaaaaaaaaaa.t0-1.1');
      return body.includes('results_unavailable');
    });
    await until('the dashboard shows the error', async () => {
      const { body } = await request(system.dashboard.url, '/ledger', 'GET', { authorization: ANN });
      return body.includes('password authentication failed');
    });
    await readMetrics();
    await changePasswords((role) => new URL(urls[role]).password);
    await until('the results are available again', async () => {
      const { status } = await request(system.results.url, '/receipts/one-aaaaaaaaaaaaa.t0-1.1');
      return status === 200;
    });
  });

  async function changePasswords(passwordOf: (role: (typeof ROLES)[number]) => string): Promise<void> {
    for (const role of ROLES) {
      await sql.raw(`alter role ${role} password '${passwordOf(role)}'`).execute(database.db);
    }
    await sql`select pg_terminate_backend(pid) from pg_stat_activity where usename like 'turnout_%'`.execute(
      database.db,
    );
  }

  test('in passwords, is not ready', async () => {
    const wrongUrl = (text: string) => text.replace(/:[^:@/]+@/, `:${WRONG}@`);
    const vote = await startWrong('vote', { REDIS_URL: wrongUrl(redis.url('vote')) }, 'wrong-vote');
    const worker = await startWrong(
      'worker',
      { DATABASE_URL: wrongUrl(urls.turnout_worker), QUEUE_NODES: wrongUrl(redis.url('worker')) },
      'wrong-worker',
    );
    const results = await startWrong(
      'results',
      { DATABASE_URL: wrongUrl(urls.turnout_results) },
      'wrong-results',
    );
    const dashboard = await startWrong(
      'dashboard',
      { DATABASE_URL: wrongUrl(urls.turnout_dashboard), QUEUE_NODES: wrongUrl(redis.url('dashboard')) },
      'wrong-dashboard',
    );
    await logOf(worker, 'database not ready, retrying');
    for (const { adminUrl } of [vote, worker, results]) {
      await until(
        'it reports that it is not ready',
        async () => (await request(adminUrl, '/readyz')).status === 503,
      );
    }
    await until('it shows the errors', async () => {
      const { body } = await request(dashboard.url, '/', 'GET', { authorization: ANN });
      return body.includes('password authentication failed') && body.includes('WRONGPASS');
    });
    await request(dashboard.url, '/queues/api/queues', 'GET', { authorization: ANN });
  });

  test('in settings, exits', async () => {
    const wrong = await Promise.all([
      startWrong('vote', { VOTER_KEY: WRONG.slice(0, 31), REDIS_URL: `redis:/${WRONG}` }, 'malformed-1'),
      startWrong('vote', { REDIS_URL: `unix://vote:${WRONG}@host/r.sock` }, 'malformed-2'),
      startWrong('vote', { REDIS_URL: `redis://vote:${WRONG}%@host` }, 'malformed-3'),
      startWrong('worker', { DATABASE_URL: `postgres://a:${WRONG}@host:port/x` }, 'malformed-4'),
      startWrong('worker', { QUEUE_NODES: `unix://a:${WRONG}@host/r.sock` }, 'malformed-5'),
      startWrong('results', { DATABASE_URL: WRONG }, 'malformed-6'),
      startWrong('dashboard', { DASHBOARD_USERS: WRONG }, 'malformed-7'),
      startWrong('dashboard', { QUEUE_NODES: `dns:a:${WRONG}@` }, 'malformed-8'),
    ]);
    await Promise.all(wrong.map(hasEnded));
    expect(wrong.map(({ child }) => child.exitCode)).toEqual(wrong.map(() => 1));
  });
});

/** Reads all pages of every admin port. */
async function readMetrics(): Promise<void> {
  for (const { adminUrl } of Object.values(system)) {
    for (const path of ['/metrics', '/readyz', '/healthz']) await request(adminUrl, path);
  }
}

test('no secret or token appears in logs, metrics, responses or the process list', async () => {
  await readMetrics();
  const commands = await Promise.all(
    Object.values(system).map(({ child }) => readFile(`/proc/${child.pid}/cmdline`, 'utf8').catch(() => '')),
  );
  await Promise.all(started.map((service) => service.end()));
  const logs = await Promise.all(started.map((service) => service.output()));
  expect(logs.join('').length).toBeGreaterThan(10_000);
  // It was worth looking: all kinds of faults have left their traces.
  for (const trace of ['WRONGPASS', 'password authentication failed', 'ECONNREFUSED', 'configuration:']) {
    expect(
      [...logs, ...received].some((text) => text.includes(trace)),
      trace,
    ).toBe(true);
  }

  const passwords = [
    VOTER_KEY,
    DASHBOARD_PASSWORD,
    WRONG,
    ...Object.values(redis.passwords),
    ...Object.values(urls).map((url) => new URL(url).password),
  ];
  const secrets = [
    ...passwords.flatMap((text) => [text, encodeURIComponent(text), Buffer.from(text).toString('base64url')]),
    ANN.slice('Basic '.length),
    ...voterTokens,
  ];
  const places = [...logs, ...commands, ...received];
  const found = secrets.flatMap((secret) =>
    places.filter((text) => text.includes(secret)).map((text) => around(text, secret)),
  );
  expect(found).toEqual([]);

  // Voter ids, the unsigned part of a token, are personal data too.
  const voters = [...voterTokens].flatMap((token) => tokens.verify(token)?.id ?? []);
  expect(voters.length).toBeGreaterThan(5);
  expect(voters.filter((voter) => places.some((text) => text.includes(voter)))).toEqual([]);
});

function around(text: string, secret: string): string {
  const at = text.indexOf(secret);
  return text.slice(Math.max(0, at - 120), at + secret.length + 40);
}
