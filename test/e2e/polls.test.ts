import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { scratchFolder } from '#kit/process.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { startService, type TestService, voteEnv } from '#kit/system.ts';
import { storedTallies } from '#kit/tables.ts';
import { until } from '#kit/until.ts';

const COUNTED_MS_MAX = 20_000;

let database: TestDatabase;
let folder: Awaited<ReturnType<typeof scratchFolder>>;
let redis: TestRedis;
const services: TestService[] = [];

beforeAll(async () => {
  database = await createDatabase('template1');
  folder = await scratchFolder();
  redis = await startRedis();
});
afterAll(async () => {
  await Promise.all(services.map((service) => service.end()));
  await redis.remove();
  await database.remove();
  await folder.remove();
});

async function pollsFile(version: number, ids: readonly string[]): Promise<string> {
  const path = join(folder.path, `${version}.json`);
  const choices = [
    { id: 'yes', label: 'Yes' },
    { id: 'no', label: 'No' },
  ];
  await writeFile(
    path,
    JSON.stringify({ version, polls: ids.map((id) => ({ id, question: `${id}?`, choices })) }),
  );
  return path;
}

async function start(
  bundle: 'vote' | 'worker',
  name: string,
  env: Record<string, string>,
): Promise<TestService> {
  const service = await startService({ bundle, name, env, folder: folder.path });
  services.push(service);
  return service;
}

const startWorker = (name: string, polls: string) =>
  start('worker', name, { DATABASE_URL: database.url, QUEUE_NODES: redis.socket, POLLS_FILE: polls });

test('a poll of a newer file is voted on and counted without a restart, while an old worker runs', async () => {
  await startWorker('old-worker', await pollsFile(1, ['first']));
  const vote = await start('vote', 'vote', voteEnv('frontend01', redis.socket));
  const castVote = async (): Promise<number> => {
    const response = await fetch(`${vote.url}/polls/second/votes`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"choice":"yes"}',
    });
    return response.status;
  };
  expect(await castVote()).toBe(404);

  await startWorker('new-worker', await pollsFile(2, ['first', 'second']));
  await until('the vote is accepted', async () => (await castVote()) === 202, COUNTED_MS_MAX);
  await until(
    'the vote is counted',
    async () => (await storedTallies(database.db)).get('second yes') === 1,
    COUNTED_MS_MAX,
  );
  expect(await database.db.selectFrom('rejected_votes').select('reason').execute()).toEqual([]);
});
