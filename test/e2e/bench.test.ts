import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Result } from '#bench/report/result.ts';
import { ROOT } from '#dev/root.ts';
import { scratchFolder } from '#kit/process.ts';

const BENCH = join(ROOT, 'bench/main.ts');
const MS_MAX = 120_000;

let folder: Awaited<ReturnType<typeof scratchFolder>>;

beforeAll(async () => {
  folder = await scratchFolder();
});
afterAll(() => folder.remove());

test('a run of one scenario prints a table and its goals, and writes a result and a page', async () => {
  const args = ['memory', '--quick', '--no-build', '--out', folder.path];
  const { stdout } = await execa(process.execPath, [BENCH, ...args], { timeout: MS_MAX });
  expect(stdout).toMatch(/^memory: /m);
  expect(stdout).toMatch(/^ok {4}Redis, memory of a waiting vote +\d+\.\d\d bytes +at most 100 bytes$/m);

  const files = await readdir(folder.path);
  const [json = '', html = ''] = ['.json', '.html'].map((end) => files.find((name) => name.endsWith(end)));
  const result = JSON.parse(await readFile(join(folder.path, json), 'utf8')) as Result;
  expect(result).toMatchObject({
    commit: expect.stringMatching(/^[0-9a-f]{10}$/),
    isDirty: expect.any(Boolean),
    machine: { processors: expect.any(Number), architecture: process.arch },
    versions: { node: process.versions.node, redis: expect.any(String), bullmq: expect.any(String) },
  });
  const bytesOf = (side: string, votesPerJob: number): number =>
    result.samples.find((sample) => sample.side === side && sample.params['votesPerJob'] === votesPerJob)
      ?.metrics.redisBytes ?? 0;
  // A vote in a shared job contains at least the 36 characters of its voter's id.
  expect(bytesOf('turnout', 500)).toBeGreaterThan(36);
  expect(bytesOf('job-per-vote', 1)).toBeGreaterThan(4 * bytesOf('turnout', 500));
  expect(await readFile(join(folder.path, html), 'utf8')).toContain('<svg');
});

test('a plan needs no measurement of its own', async () => {
  const { stdout } = await execa(process.execPath, [BENCH, 'plan', '--voters', '100M', '--minutes', '10']);
  expect(stdout).toMatch(/^100,000,000 voters, 95 % of them within 10\.0 minutes$/m);
  expect(stdout).toMatch(/^Costs: bench\/.+\n +commit [0-9a-f]{10}, \d{4}-\d\d-\d\d, \d+ × /m);
});
