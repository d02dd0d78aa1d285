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

async function pollsFile(name: string, ids: readonly string[]): Promise<string> {
  const path = join(folder.path, name);
  const choices = [
    { id: 'yes', label: 'Yes' },
    { id: 'no', label: 'No' },
  ];
  await writeFile(path, JSON.stringify({ polls: ids.map((id) => ({ id, question: `${id}?`, choices })) }));
  return path;
}

async function start(bundle: 'vote' | 'worker', name: string, polls: string): Promise<TestService> {
  const env =
    bundle === 'vote'
      ? voteEnv('frontend01', redis.socket)
      : { DATABASE_URL: database.url, QUEUE_NODES: redis.socket };
  const service = await startService({
    bundle,
    name,
    env: { ...env, POLLS_FILE: polls },
    folder: folder.path,
  });
  services.push(service);
  return service;
}

test('a vote for a poll added by an update counts although an old worker commits it first', async () => {
  const old = await pollsFile('old.json', ['first']);
  const fresh = await pollsFile('new.json', ['first', 'second']);
  await start('worker', 'old-worker', old);
  const vote = await start('vote', 'new-vote', fresh);

  const response = await fetch(`${vote.url}/polls/second/votes`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"choice":"yes"}',
  });
  expect(response.status).toBe(202);
  const rejected = () => database.db.selectFrom('rejected_votes').select('reason').execute();
  await until(
    'the old worker has rejected the vote',
    async () => (await rejected()).length === 1,
    COUNTED_MS_MAX,
  );

  await start('worker', 'new-worker', fresh);
  await until(
    'the vote is counted',
    async () => (await storedTallies(database.db)).get('second yes') === 1,
    COUNTED_MS_MAX,
  );
  expect(await rejected()).toEqual([]);
});
