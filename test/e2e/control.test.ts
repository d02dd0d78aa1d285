import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readResults } from '#db/results.ts';
import { ROOT } from '#dev/root.ts';
import { NODE_KEY } from '#job';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { scratchFolder } from '#kit/process.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { spawnService, startService, type TestService, voteEnv } from '#kit/system.ts';
import { storedVotes } from '#kit/tables.ts';
import { until } from '#kit/until.ts';

const SHOW = 'show';
const ENCORE = 'encore';
const COMMAND = join(ROOT, 'workers/audit/cli/polls.ts');
const COMMAND_MS_MAX = 30_000;
/** From the command to the last handler that is closed, and from the close to the final result. */
const CLOSED_MS_MAX = 5_000;
const FINAL_MS_MAX = 15_000;
const HEADERS = { Authorization: `Basic ${btoa('sre:password1')}` };

let database: TestDatabase;
let folder: Awaited<ReturnType<typeof scratchFolder>>;
let redises: TestRedis[];
let handlers: TestService[];
let dashboard: TestService;
const services: Pick<TestService, 'end'>[] = [];

/** A worker, two nodes with a handler each, and the dashboard. */
beforeAll(async () => {
  database = await createDatabase('template1');
  folder = await scratchFolder();
  redises = await Promise.all([startRedis(), startRedis()]);
  const choices = ['yes', 'no'].map((id) => ({ id, label: id }));
  const file = join(folder.path, 'polls.json');
  const declared = [SHOW, ENCORE].map((id) => ({ id, question: `${id}?`, choices }));
  await writeFile(file, JSON.stringify({ polls: declared }));
  const env = { DATABASE_URL: database.url, QUEUE_NODES: nodes() };
  const start = async (options: Parameters<typeof startService>[0]): Promise<TestService> => {
    const service = await startService(options);
    services.push(service);
    return service;
  };
  services.push(
    await spawnService({ bundle: 'worker', env: { ...env, POLLS_FILE: file }, folder: folder.path }),
  );
  handlers = await Promise.all(
    redises.map(({ socket }, index) =>
      start({
        bundle: 'vote',
        name: `vote${index}`,
        env: voteEnv(`frontend0${index}`, socket),
        folder: folder.path,
      }),
    ),
  );
  const users = { DASHBOARD_USERS: 'sre:password1' };
  dashboard = await start({ bundle: 'dashboard', env: { ...env, ...users }, folder: folder.path });
});
afterAll(async () => {
  await Promise.all(services.map((service) => service.end('SIGKILL')));
  await Promise.all(redises.map((redis) => redis.remove()));
  await database.remove();
  await folder.remove();
});

const nodes = () => redises.map(({ socket }) => socket).join();

/** Runs `npm run polls`; returns its exit code and what it wrote. */
async function polls(...args: string[]): Promise<{ code: number; said: string }> {
  const env = { PATH: process.env['PATH'], DATABASE_URL: database.url, QUEUE_NODES: nodes() };
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [COMMAND, ...args],
      { env, timeout: COMMAND_MS_MAX },
      (error, stdout, stderr) => {
        resolve({ code: error ? Number(error.code) : 0, said: stdout + stderr });
      },
    );
  });
}

const by = (...args: string[]) => polls(...args, '--who', 'ada', '--reason', 'the host talks');

async function castVote({ url }: TestService, poll: string): Promise<number> {
  const response = await fetch(`${url}/polls/${poll}/votes`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"choice":"yes"}',
  });
  return response.status;
}

const statuses = (poll: string) => Promise.all(handlers.map((handler) => castVote(handler, poll)));
const hasPhase = async (poll: string, phase: string) => {
  const response = await fetch(`${dashboard.url}/polls.txt`, { headers: HEADERS });
  return (await response.text()).split('\n').some((line) => line.startsWith(`${poll}  ${phase},`));
};

test('an operator extends, hides and closes a poll by the command, and forgets it once it is final', async () => {
  expect(await statuses(SHOW)).toEqual([202, 202]);
  const extended = await by('extend', SHOW, '--until', new Date(Date.now() + 3_600_000).toISOString());
  expect(extended).toMatchObject({ code: 0, said: expect.stringContaining('by ada: extend to') });
  expect((await by('embargo', SHOW)).said).toContain('embargoed until it is final');
  expect(await statuses(SHOW)).toEqual([202, 202]);

  const closed = await by('close', SHOW);
  expect(closed.code).toBe(0);
  expect(closed.said).toMatch(/Taken by 2 of 2 nodes and 2 of 2 handlers, within \d\.\d s\.\n/);
  expect(closed.said).toContain('by ada: close (the host talks)');
  expect(await statuses(SHOW)).toEqual([403, 403]);
  expect((await by('close', SHOW)).said).toContain('Nothing changed: it');

  await until('it is final', () => hasPhase(SHOW, 'final'), FINAL_MS_MAX);
  expect(await by('open', SHOW)).toEqual({
    code: 1,
    said: expect.stringContaining('cannot be opened again'),
  });
  expect((await storedVotes(database.db)).size).toBe(4);
  expect(await by('forget', SHOW)).toMatchObject({
    code: 0,
    said: expect.stringContaining(`${SHOW}  forgotten`),
  });
  await until('its votes are deleted', async () => (await storedVotes(database.db)).size === 0);
  const { polls: results } = await readResults(database.db);
  expect(results[0]?.choices).toMatchObject([
    { id: 'yes', votes: 4 },
    { id: 'no', votes: 0 },
  ]);
});

test('an operator closes a poll on the dashboard: no vote is accepted within 5 s, and it is final within 15 s', async () => {
  expect(await statuses(ENCORE)).toEqual([202, 202]);
  const closedAt = performance.now();
  const response = await fetch(`${dashboard.url}/polls/${ENCORE}/close`, {
    method: 'POST',
    headers: HEADERS,
    body: new URLSearchParams({ reason: 'the show is over' }),
  });
  expect(response.status).toBe(202);
  await until(
    'no handler accepts votes',
    async () => (await statuses(ENCORE)).every((status) => status === 403),
    CLOSED_MS_MAX,
  );
  await until('it is final', () => hasPhase(ENCORE, 'final'), FINAL_MS_MAX);
  expect(performance.now() - closedAt).toBeLessThan(FINAL_MS_MAX);
});

test('a frozen handler is named, one that has ended is not', async () => {
  const [redis] = redises as [TestRedis];
  const frozen = await startService({
    bundle: 'vote',
    name: 'frozen',
    env: voteEnv('frozen', redis.socket),
    folder: folder.path,
  });
  services.push(frozen);
  const id = await redis.client.get(NODE_KEY);
  frozen.child.kill('SIGSTOP');
  // Both polls are final; a change of their revisions stands for one of polls that are not.
  await database.db.updateTable('polls').set({ revision: 9 }).execute();
  const listed = await until(
    'the nodes and the other handlers have taken the change',
    async () => {
      const { said } = await polls('list');
      return said.includes('Taken by 2 of 2 nodes and 2 of 3 handlers') && said;
    },
    COMMAND_MS_MAX,
  );
  expect(listed).toMatch(new RegExp(`not yet by frozen-${id}\\.\\S+\\.\\n`));
  await frozen.end('SIGKILL');
  await until(
    'it is not expected any more',
    async () => (await polls('list')).said.includes('Taken by 2 of 2 nodes and 2 of 2 handlers'),
    COMMAND_MS_MAX,
  );
});

test('what cannot be done is refused with the reason', async () => {
  expect(await by('close', 'nothing')).toEqual({
    code: 1,
    said: 'nothing does not change: no poll has this id\n',
  });
  expect(await polls('close', SHOW)).toEqual({
    code: 1,
    said: expect.stringContaining('--reason must have'),
  });
  expect(await polls('--help')).toMatchObject({ code: 0, said: expect.stringContaining('npm run polls') });
});
