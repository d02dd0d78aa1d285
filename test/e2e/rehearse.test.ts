import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { scratchFolder, startProgram, type TestProcess } from '#kit/process.ts';
import { until } from '#kit/until.ts';

const BASE_PORT = 18_580;
const START_MS_MAX = 90_000;
const RUN_MS_MAX = 180_000;

let folder: Awaited<ReturnType<typeof scratchFolder>>;
let system: TestProcess;
const data = () => join(folder.path, 'data');

beforeAll(async () => {
  folder = await scratchFolder();
  system = startProgram(
    process.execPath,
    [
      join(ROOT, 'stack/dev/bootstrap.mjs'),
      join(ROOT, 'stack/dev/start/main.ts'),
      ...['--data', data(), '--port', String(BASE_PORT)],
    ],
    { log: join(folder.path, 'start.log'), env: { HOME: folder.path } },
  );
  await until(
    'the system is up',
    async () => (await system.output()).includes('Press Ctrl-C to stop'),
    START_MS_MAX,
  );
}, START_MS_MAX + 10_000);
afterAll(async () => {
  await system.end();
  await folder.remove();
});

const rehearse = (out: string, ...args: string[]) =>
  execa(
    process.execPath,
    [
      join(ROOT, 'bench/rehearse/main.ts'),
      ...['--data', data(), '--voters', '1000', '--minutes', '0.1', '--out', join(folder.path, out), ...args],
    ],
    { reject: false, timeout: RUN_MS_MAX, all: true, stdin: 'ignore' },
  );
const AT = `http://127.0.0.1:${BASE_PORT}`;
const TARGETS = ['--target', AT, '--target', `http://127.0.0.1:${BASE_PORT + 10}`];

async function listPolls(): Promise<string> {
  const { stdout } = await execa(process.execPath, [
    join(ROOT, 'workers/audit/cli/polls.ts'),
    'list',
    ...['--data', data()],
  ]);
  return stdout;
}

test(
  'a rehearsal with faults accounts for every vote of a running system, reports it, and leaves no poll behind',
  async () => {
    const { all, exitCode } = await rehearse('faults', ...TARGETS, '--faults');
    expect(all).toMatch(/^READY: all [\d,]+ accepted votes are counted despite 4 faults\.$/m);
    expect(all).toMatch(
      /after \d+\.\d s: worker01 killed\n.*frontend01-\S+ killed\n.*-redis killed\n.*postgres killed/,
    );
    expect(exitCode).toBe(0);

    const out = join(folder.path, 'faults');
    const [page = '', json = ''] = readdirSync(out).toSorted();
    const { rehearsal, poll } = JSON.parse(readFileSync(join(out, json), 'utf8'));
    for (const { group, result, counted } of rehearsal.groups) {
      if (group.kind === 'page') continue;
      expect(result.accepted, group.id).toBeGreaterThan(0);
      expect(counted, group.id).toBeGreaterThanOrEqual(result.voters);
    }
    expect(readFileSync(join(out, page), 'utf8')).toContain('<h1>READY: all ');
    expect(await listPolls()).not.toContain(poll);
  },
  RUN_MS_MAX,
);

test('a target of another system gets no crowd, and the poll is closed', async () => {
  const { all, exitCode } = await rehearse('other', '--target', `http://127.0.0.1:${BASE_PORT + 1}`);
  expect(all).toMatch(/answers 404: is this the system of the database that the poll is in\?/);
  expect(exitCode).toBe(2);
  expect(await listPolls()).toMatch(/^rehearsal-\d+ {2}(closing|closed|final), .*hidden/m);
});

test('a host elsewhere gets no crowd without --against', async () => {
  const { all, exitCode } = await rehearse('elsewhere', '--target', 'http://vote.example.com');
  expect(all).toContain('confirm with --against vote.example.com');
  expect(exitCode).toBe(2);
});
