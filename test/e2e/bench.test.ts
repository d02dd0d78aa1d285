import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
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

test('a run of one scenario ends with a table, a result and a page', async () => {
  const args = [BENCH, 'memory', '--quick', '--no-build', '--out', folder.path];
  const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: MS_MAX });
  expect(stdout).toMatch(/^memory: /m);
  expect(stdout).toMatch(/^ok {4}Redis, a waiting vote +\d+\.\d\d bytes +at most 100 bytes$/m);

  const files = await readdir(folder.path);
  const [json = '', html = ''] = [
    files.find((name) => name.endsWith('.json')),
    files.find((name) => name.endsWith('.html')),
  ];
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
  // A vote that shares its job holds 36 characters of a voter, at the very least.
  expect(bytesOf('turnout', 500)).toBeGreaterThan(36);
  expect(bytesOf('job-per-vote', 1)).toBeGreaterThan(4 * bytesOf('turnout', 500));
  expect(await readFile(join(folder.path, html), 'utf8')).toContain('<svg');
});
