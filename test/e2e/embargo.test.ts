import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { scratchFolder } from '#kit/process.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { startService, type TestService, voteEnv } from '#kit/system.ts';
import { storedTallies } from '#kit/tables.ts';
import { until } from '#kit/until.ts';

const WAIT_MS_MAX = 40_000;
const CHOICES = [
  { id: 'cats', label: 'Whiskers' },
  { id: 'dogs', label: 'Barkers' },
];
const POLLS = [
  { id: 'rehearsal', question: 'Is this on?', choices: CHOICES, hidden: true },
  { id: 'show', question: 'Who wins?', choices: CHOICES, results: 'closed' },
];

let database: TestDatabase;
let folder: Awaited<ReturnType<typeof scratchFolder>>;
let redis: TestRedis;
let vote: TestService;
let results: TestService;
const services: TestService[] = [];

beforeAll(async () => {
  database = await createDatabase('template1');
  folder = await scratchFolder();
  redis = await startRedis();
  const path = join(folder.path, 'polls.json');
  await writeFile(path, JSON.stringify({ polls: POLLS }));
  const env = { DATABASE_URL: database.url, QUEUE_NODES: redis.socket, POLLS_FILE: path };
  services.push(await startService({ bundle: 'worker', env, folder: folder.path }));
  vote = await startService({
    bundle: 'vote',
    env: voteEnv('frontend01', redis.socket),
    folder: folder.path,
  });
  results = await startService({
    bundle: 'results',
    env: { DATABASE_URL: database.url },
    folder: folder.path,
  });
  services.push(vote, results);
});
afterAll(async () => {
  await Promise.all(services.map((service) => service.end()));
  await redis.remove();
  await database.remove();
  await folder.remove();
});

async function castVote(poll: string, choice: string): Promise<string> {
  const response = await fetch(`${vote.url}/polls/${poll}/votes`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ choice }),
  });
  return ((await response.json()) as { receipt: string }).receipt;
}

const textOf = async (url: string): Promise<string> =>
  (await fetch(url, { headers: { accept: 'text/html' } })).text();

test('a hidden poll is listed nowhere, and is voted on and counted at its own address', async () => {
  expect(await textOf(vote.url)).toContain('<h1>Who wins?</h1>');
  expect(await textOf(vote.url)).not.toContain('Is this on?');
  expect(await textOf(results.url)).not.toContain('Is this on?');
  expect(await textOf(`${vote.url}/polls/rehearsal`)).toContain('<h1>Is this on?</h1>');
  await castVote('rehearsal', 'cats');
  await until(
    'the vote is counted',
    async () => (await textOf(`${results.url}/polls/rehearsal/results`)).includes('"total":1'),
    WAIT_MS_MAX,
  );
  expect(await textOf(`${results.url}/polls/rehearsal`)).toContain('100.0%');
});

test('an embargoed result is at no address before it is final, and then at all of them', async () => {
  const receipt = await castVote('show', 'cats');
  for (const choice of ['cats', 'dogs']) await castVote('show', choice);
  await until(
    'the votes are counted',
    async () => {
      const tallies = await storedTallies(database.db);
      return tallies.get('show cats') === 2 && tallies.get('show dogs') === 1;
    },
    WAIT_MS_MAX,
  );
  for (const path of ['results', 'results.csv', 'results/stream']) {
    const response = await fetch(`${results.url}/polls/show/${path}`);
    expect(response.status).toBe(403);
    const { code } = (await response.json()) as { code: string };
    expect(code).toBe('embargoed');
  }
  const metrics = await textOf(`${results.adminUrl}/metrics`);
  const addresses = ['', '/wall', '/polls/show', '/polls/show/wall', `/receipts/${receipt}`];
  const pages = await Promise.all(addresses.map((path) => textOf(results.url + path)));
  for (const text of [metrics, ...pages]) {
    expect(text).not.toMatch(/Whiskers|Barkers|cats|dogs|\d votes?|\d voters?|\d%<|<rect width/);
  }
  expect(pages.at(-1)).toContain('<h1>Your vote is counted</h1>');

  await database.db.updateTable('polls').set({ closes_at: new Date() }).where('id', '=', 'show').execute();
  await until(
    'the result is shown',
    async () => (await fetch(`${results.url}/polls/show/results`)).status === 200,
    WAIT_MS_MAX,
  );
  expect(JSON.parse(await textOf(`${results.url}/polls/show/results`))).toMatchObject({
    status: 'final',
    total: 3,
    choices: [{ votes: 2 }, { votes: 1 }],
  });
  expect(await textOf(`${results.url}/polls/show/results.csv`)).toContain(',Whiskers,2,final,');
  for (const path of addresses.slice(0, -1)) expect(await textOf(results.url + path)).toContain('66.7%');
});
