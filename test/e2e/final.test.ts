import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readResults } from '#db/results.ts';
import { FENCED_EXIT_CODE } from '#handlers/vote/processes.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { scratchFolder } from '#kit/process.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { spawnService, startService, type TestService, voteEnv } from '#kit/system.ts';
import { until } from '#kit/until.ts';

const SHOW = 'show';
const OPEN_MS = 6_000;
/** From the close of a poll to its final result, with a frozen handler. */
const FINAL_MS_MAX = 15_000;

let database: TestDatabase;
let folder: Awaited<ReturnType<typeof scratchFolder>>;
let redises: TestRedis[];
const services: Pick<TestService, 'child' | 'end'>[] = [];
const closesAt = Date.now() + OPEN_MS;

beforeAll(async () => {
  database = await createDatabase('template1');
  folder = await scratchFolder();
  redises = await Promise.all([startRedis(), startRedis()]);
});
afterAll(async () => {
  await Promise.all(services.map((service) => service.end('SIGKILL')));
  await Promise.all(redises.map((redis) => redis.remove()));
  await database.remove();
  await folder.remove();
});

async function startWorker(): Promise<void> {
  const choices = [
    { id: 'yes', label: 'Yes' },
    { id: 'no', label: 'No' },
  ];
  const poll = { id: SHOW, question: 'Ready?', choices, closesAt: new Date(closesAt).toISOString() };
  const file = join(folder.path, 'polls.json');
  await writeFile(file, JSON.stringify({ polls: [poll] }));
  const env = {
    DATABASE_URL: database.url,
    QUEUE_NODES: redises.map(({ socket }) => socket).join(),
    POLLS_FILE: file,
  };
  services.push(await spawnService({ bundle: 'worker', env, folder: folder.path }));
}

async function startHandler({ socket }: TestRedis, name: string): Promise<TestService> {
  const handler = await startService({
    bundle: 'vote',
    name,
    env: voteEnv('frontend', socket),
    folder: folder.path,
  });
  services.push(handler);
  return handler;
}

async function castVote({ url }: TestService): Promise<number> {
  const response = await fetch(`${url}/polls/${SHOW}/votes`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"choice":"yes"}',
  });
  return response.status;
}

const result = async () => (await readResults(database.db)).polls.find(({ poll }) => poll === SHOW);

test('a poll is final within 15 s of its close although a handler is frozen, whose later votes get no 202', async () => {
  await startWorker();
  const [alive, frozen] = (await Promise.all(
    redises.map((redis, index) => startHandler(redis, `vote${index}`)),
  )) as [TestService, TestService];
  for (const handler of [alive, frozen, frozen]) expect(await castVote(handler)).toBe(202);
  frozen.child.kill('SIGSTOP');
  await until('the other handler refuses votes', async () => (await castVote(alive)) === 403, OPEN_MS * 2);
  const accepted = await until(
    'the poll is final',
    async () => {
      const found = await result();
      return found && found.finalAt !== null && found;
    },
    OPEN_MS + 2 * FINAL_MS_MAX,
  );
  expect((accepted.finalAt ?? 0) - closesAt).toBeLessThan(FINAL_MS_MAX);

  // A request that the frozen handler had not read yet is answered when it continues.
  const late = castVote(frozen).catch(() => 'no answer');
  frozen.child.kill('SIGCONT');
  expect(await late).not.toBe(202);
  await until('the frozen handler has exited', () => frozen.child.exitCode !== null);
  expect(frozen.child.exitCode).toBe(FENCED_EXIT_CODE);
  expect(await result()).toEqual(accepted);
  const total = (accepted.choices ?? []).reduce((sum, { votes }) => sum + votes, 0);
  const { ledger } = await readResults(database.db);
  expect({ total, ledger }).toEqual({
    total: ledger.accepted,
    ledger: { accepted: total, committed: total },
  });
});
