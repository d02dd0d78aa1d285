import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { migrate } from '#db/migrate.ts';
import { applyPollsFile } from '#db/polls.ts';
import { ROOT } from '#dev/root.ts';
import { createDatabase } from '#kit/postgres.ts';
import { freePort, scratchFolder, startNode, untilReady } from '#kit/process.ts';
import { until } from '#kit/until.ts';

const MAIN = join(ROOT, 'handlers/results/main.ts');

const cleanups: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

test('is ready once a worker has migrated the schema, and ends its streams when it stops', async () => {
  const database = await createDatabase('template1');
  cleanups.push(() => database.remove());
  const folder = await scratchFolder();
  cleanups.push(() => folder.remove());
  const [port, adminPort] = [await freePort(), await freePort()];
  const results = startNode(
    MAIN,
    { DATABASE_URL: database.url, PORT: String(port), ADMIN_PORT: String(adminPort) },
    join(folder.path, 'results.log'),
  );
  cleanups.push(() => results.end('SIGKILL'));

  await until('it says what it waits for', async () => {
    const response = await fetch(`http://127.0.0.1:${adminPort}/readyz`);
    const { reason } = (await response.json()) as { reason: Record<string, string> };
    return response.status === 503 && reason['postgres']?.includes('relation');
  });
  const early = await fetch(`http://127.0.0.1:${port}/`);
  expect(early.status).toBe(503);

  await migrate(database.db);
  await untilReady(results, adminPort);
  const page = await fetch(`http://127.0.0.1:${port}/`);
  expect(await page.text()).toContain('There is no poll yet.');
  const metrics = await (await fetch(`http://127.0.0.1:${adminPort}/metrics`)).text();
  expect(metrics).toMatch(/turnout_results_reads_total\{outcome="read",process="results"\} [1-9]/);

  const choices = ['b', 'c'].map((id) => ({ id, label: id }));
  await applyPollsFile(database.db, { version: 1, polls: [{ id: 'a', question: 'A?', choices }] });
  const stream = await until('a stream is open', async () => {
    const response = await fetch(`http://127.0.0.1:${port}/polls/a/results/stream`);
    return response.ok && response;
  });
  const streamed = stream.text();
  expect(await results.end('SIGTERM')).toBe(0);
  expect(await streamed).toContain('data: {"poll":"a"');
});
