import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { commitBatches } from '#db/commit.ts';
import { finalizePoll, recordSeals } from '#db/final.ts';
import { foldReceipts } from '#db/fold.ts';
import { ROOT } from '#dev/root.ts';
import { createDatabase } from '#kit/postgres.ts';
import { freePort, scratchFolder, startNode, untilReady } from '#kit/process.ts';
import { startRedis } from '#kit/redis.ts';
import { mirrorEntry, recordClosed } from '#kit/tables.ts';
import { until } from '#kit/until.ts';
import { POLL } from '#kit/votes.ts';
import { capture, fail, job, take } from './nodes.ts';

const MAIN = join(ROOT, 'handlers/dashboard/main.ts');
const SOURCE = 'frontend01-aaaaaaaaaaaaa.t0-1';
const HEADERS = { Authorization: `Basic ${Buffer.from('sre:password1').toString('base64')}` };

const cleanups: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

async function start(env: { DATABASE_URL: string; QUEUE_NODES: string }) {
  const folder = await scratchFolder();
  cleanups.push(() => folder.remove());
  const [port, adminPort] = [await freePort(), await freePort()];
  const dashboard = startNode(
    MAIN,
    { ...env, DASHBOARD_USERS: 'sre:password1', PORT: String(port), ADMIN_PORT: String(adminPort) },
    join(folder.path, 'dashboard.log'),
  );
  cleanups.push(() => dashboard.end('SIGKILL'));
  await untilReady(dashboard, adminPort);
  return { dashboard, url: `http://127.0.0.1:${port}` };
}

test('serves audit and queues to known users, and stops on SIGTERM', async () => {
  const database = await createDatabase();
  cleanups.push(() => database.remove());
  const redis = await startRedis();
  cleanups.push(() => redis.remove());
  await capture(redis, SOURCE, 2);
  const { dashboard, url } = await start({ DATABASE_URL: database.url, QUEUE_NODES: redis.socket });

  for (const path of ['/', '/ledger', '/anomalies', '/queues', '/queues/static/images/logo.svg']) {
    expect((await fetch(`${url}${path}`)).status).toBe(401);
    const response = await fetch(`${url}${path}`, { headers: HEADERS });
    expect(response.status, path).toBe(200);
    await response.text();
  }
  await until('the votes are seen', async () => {
    const response = await fetch(`${url}/ledger`, { headers: HEADERS });
    const { total } = (await response.json()) as { total: { accepted: number; pending: number } };
    return total.accepted === 3 && total.pending === 3;
  });
  expect(await dashboard.end('SIGTERM')).toBe(0);
});

test('requests a retirement and a write-off, and shows what a closed poll awaits', async () => {
  const database = await createDatabase();
  cleanups.push(() => database.remove());
  await mirrorEntry(database.db, SOURCE, { seq: 2, votes: 3 }, Date.now() - 60_000);
  await database.db.updateTable('polls').set({ closed_at: new Date() }).where('id', '=', POLL).execute();
  const port = await freePort();
  const { url } = await start({ DATABASE_URL: database.url, QUEUE_NODES: `127.0.0.1:${port}` });
  const ledger = async () =>
    (await (await fetch(`${url}/ledger`, { headers: HEADERS })).json()) as {
      nodes: { state: string; writtenOffReason: string | null; uncountedVotes: number; writtenOff: number }[];
      polls: { poll: string; reasons: string[] }[];
    };
  const post = (action: string) =>
    fetch(`${url}/nodes/frontend01/${action}`, {
      method: 'POST',
      body: new URLSearchParams({ reason: 'its disk died' }),
      headers: HEADERS,
    });

  const { nodes, polls } = await ledger();
  expect(nodes).toMatchObject([{ state: 'enrolled', uncountedVotes: 3, pending: 3 }]);
  expect(polls).toMatchObject([
    { poll: POLL, reasons: ['frontend01 (aaaaaaaaaaaaa) was not read since the poll closed.'] },
  ]);
  expect((await post('retire')).status).toBe(202);
  expect(await ledger()).toMatchObject({ nodes: [{ state: 'retiring' }] });
  expect((await post('write-off')).status).toBe(202);
  expect(await ledger()).toMatchObject({
    nodes: [{ writtenOffReason: 'its disk died', writtenOff: 3, pending: 0 }],
    polls: [{ poll: POLL, reasons: [] }],
  });
  const actions = await database.db
    .selectFrom('operator_actions')
    .selectAll()
    .where('poll', 'is', null)
    .orderBy('at')
    .execute();
  expect(actions).toMatchObject([
    { who: 'sre', what: 'retire node aaaaaaaaaaaaa', why: 'its disk died' },
    { who: 'sre', what: 'write off node aaaaaaaaaaaaa', why: 'its disk died' },
  ]);
});

test('writes off a failed and a lost job, which its page offers, and then a poll becomes final', async () => {
  const database = await createDatabase();
  cleanups.push(() => database.remove());
  const redis = await startRedis();
  cleanups.push(() => redis.remove());
  await capture(redis, SOURCE, 3);
  await fail(redis, SOURCE, 2);
  await take(redis, SOURCE, 3);
  await commitBatches(database.db, [job(SOURCE, 1)], 0);
  await take(redis, SOURCE, 1);
  await mirrorEntry(database.db, SOURCE, { seq: 3, votes: 6 });
  await database.db.updateTable('polls').set({ closed_at: new Date() }).where('id', '=', POLL).execute();
  await recordClosed(database.db, [{ nodeId: 'aaaaaaaaaaaaa', poll: POLL, revision: 1 }]);
  await recordSeals(database.db, [{ source: SOURCE, poll: POLL, revision: 1, seq: 3 }]);
  const { url } = await start({ DATABASE_URL: database.url, QUEUE_NODES: redis.socket });

  const jobs = `${SOURCE}.2\n${SOURCE}.3`;
  await until('the page offers both jobs', async () => {
    const page = await fetch(`${url}/nodes/aaaaaaaaaaaaa`, { headers: HEADERS });
    return (await page.text()).includes(`\n${jobs}</textarea>`);
  });
  await foldReceipts(database.db);
  expect(await finalizePoll(database.db, POLL)).toBe(false);
  const body = new URLSearchParams({ jobs, reason: 'damaged data' });
  const response = await fetch(`${url}/jobs/write-off`, { method: 'POST', body, headers: HEADERS });
  expect(response.status).toBe(202);
  const ledger = await (await fetch(`${url}/ledger`, { headers: HEADERS })).json();
  expect(ledger).toMatchObject({ total: { counted: 1, failed: 0, lost: 0, writtenOff: 5 } });
  await foldReceipts(database.db);
  expect(await finalizePoll(database.db, POLL)).toBe(true);
  const actions = await database.db
    .selectFrom('operator_actions')
    .selectAll()
    .where('poll', 'is', null)
    .execute();
  expect(actions).toMatchObject([
    { who: 'sre', what: `write off jobs ${SOURCE}.2, ${SOURCE}.3`, why: 'damaged data' },
  ]);
});

test('starts while nodes and Postgres are down', async () => {
  const port = await freePort();
  const { dashboard, url } = await start({
    DATABASE_URL: `postgres://turnout@127.0.0.1:${port}/nothing`,
    QUEUE_NODES: `127.0.0.1:${port}`,
  });
  const response = await fetch(`${url}/ledger`, { headers: HEADERS });
  expect(await response.json()).toMatchObject({
    reconciledAt: null,
    postgres: { reachable: false },
    queues: [{ address: `127.0.0.1:${port}`, reachable: false }],
  });
  expect((await fetch(`${url}/queues/api/queues`, { headers: HEADERS })).status).toBe(200);
  expect(await dashboard.end('SIGTERM')).toBe(0);
});
