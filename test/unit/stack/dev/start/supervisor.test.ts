import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { identityOf } from '#dev/lock.mjs';
import { Child, type ChildListener, TIMING, type Timing } from '#dev/start/child.ts';
import { findLeftovers, recordProcesses, stopLeftovers } from '#dev/start/leftovers.ts';
import type { Kind } from '#dev/start/plan.ts';
import { type Supervised, Supervisor } from '#dev/start/supervisor.ts';
import { scratchFolder } from '#kit/process.ts';
import { until } from '#kit/until.ts';

/** Each program says in its log what it does; `ready` there makes it ready. */
const IDLE = 'trap "echo term; exit 0" TERM; echo ready; while :; do sleep 0.02; done';
const STUBBORN = 'trap "" TERM; echo ready; while :; do sleep 0.02; done';
const BROKEN = 'echo no configuration; exit 1';
const NEVER_READY = 'while :; do sleep 0.02; done';

/** Waits that should succeed keep their long deadlines, so that a loaded machine fails no test. */
const QUICK: Timing = {
  ...TIMING,
  checkIntervalMs: 5,
  restartDelayMsMin: 10,
  restartDelayMsMax: 40,
};

let folder: Awaited<ReturnType<typeof scratchFolder>>;
let supervisor: Supervisor;
let lines: string[];
const pidsFile = () => join(folder.path, 'pids.json');

beforeEach(async () => {
  folder = await scratchFolder();
  lines = [];
  supervisor = supervise(QUICK);
});
afterEach(async () => {
  supervisor.killAll();
  await supervisor.stop();
  await folder.remove();
});

function supervise(timing: Timing): Supervisor {
  return new Supervisor({
    logFolder: folder.path,
    pidsFile: pidsFile(),
    report: (line) => lines.push(line),
    timing,
  });
}

/** Lives until the test lets it die, and from then on dies as soon as it is started. */
const mortal = () =>
  `echo ready; echo cannot go on; until [ -e ${folder.path}/die ]; do sleep 0.01; done; exit 3`;
const letDie = () => writeFileSync(join(folder.path, 'die'), '');

const logOf = (name: string) => readFileSync(join(folder.path, `${name}.log`), 'utf8');

function shell(name: string, script: string, kind: Kind = 'vote'): Supervised {
  return {
    name,
    kind,
    command: { command: 'sh', args: ['-c', script] },
    env: { PATH: '/usr/bin:/bin' },
    stopSignal: 'SIGTERM',
    check: async () => (logOf(name).includes('ready') ? undefined : 'has not said ready'),
  };
}

const pids = () => findLeftovers(pidsFile()).map(({ pid }) => pid);

test('starts side by side, waits until all are ready, keeps their output', async () => {
  await supervisor.start([shell('a', IDLE), shell('b', IDLE)]);
  expect(logOf('a')).toBe('ready\n');
  expect(pids()).toHaveLength(2);
});

test('stops in order: who takes votes, then who counts them, then who keeps them', async () => {
  const log = join(folder.path, 'order');
  const noting = (name: string) =>
    `trap "echo ${name} >> ${log}; exit 0" TERM; ${IDLE.split('; ').slice(2).join('; ')}`;
  const kinds: Kind[] = ['postgres', 'redis', 'results', 'vote'];
  await supervisor.start(kinds.map((kind) => shell(kind, noting(kind), kind)));
  await Promise.all([supervisor.stop(), supervisor.stop()]);
  expect(readFileSync(log, 'utf8')).toBe('vote\nresults\nredis\npostgres\n');
  expect(lines).toEqual([]);
  expect(existsSync(pidsFile())).toBe(false);
});

test('kills what does not stop in time, with all of its group, and says so', async () => {
  supervisor = supervise({ ...QUICK, stopMsMax: 300 });
  await supervisor.start([shell('a', `sleep 300 & echo $!; ${STUBBORN}`)]);
  const inGroup = Number.parseInt(logOf('a'), 10);
  expect(identityOf(inGroup)).toBeDefined();
  await supervisor.stop();
  expect(lines).toEqual(['a did not stop within 0.3 s and was killed']);
  await until('the rest of its group has ended', () => identityOf(inGroup) === undefined);
});

test('a child that dies is reported by name with its last words, and started again ever more slowly', async () => {
  await supervisor.start([shell('a', mortal())]);
  letDie();
  await until('four deaths', () => lines.filter((line) => line.includes('died')).length >= 4);
  const deaths = lines.filter((line) => line.includes('died')).slice(0, 4);
  expect(deaths).toEqual(
    [10, 20, 40, 40].map(
      (ms) => `a died (exit 3), starting it again in ${ms} ms, its last line: cannot go on`,
    ),
  );
});

test('a child that is back is reported, and is a new process', async () => {
  await supervisor.start([shell('a', IDLE)]);
  const [before = 0] = pids();
  process.kill(before, 'SIGKILL');
  await until('a is back', () => lines.includes('a is ready again'));
  expect(lines[0]).toBe('a died (ended by SIGKILL), starting it again in 10 ms, its last line: ready');
  const [after] = pids();
  expect(after).toBeDefined();
  expect(after).not.toBe(before);
});

test('a long life makes the delay short again', async () => {
  const deaths: number[] = [];
  const listener: ChildListener = {
    processChanged: () => {},
    died: (_child, _how, _lastLine, delayMs) => deaths.push(delayMs),
    recovered: () => {},
    killed: () => {},
  };
  const logFile = join(folder.path, 'a.log');
  const child = new Child({ ...shell('a', mortal()), logFile }, listener, { ...QUICK, soundAfterMs: 0 });
  child.start();
  await child.whenReady();
  letDie();
  await until('four deaths', () => deaths.length >= 4);
  await child.stop();
  expect(new Set(deaths)).toEqual(new Set([10]));
});

test('a child that dies before it was ever ready fails the start with the end of its log', async () => {
  const failure = await supervisor.start([shell('a', BROKEN)]).catch((error: unknown) => error);
  expect(failure).toMatchObject({
    message: 'a does not start: exit 1',
    details: Array(3).fill('no configuration'),
  });
});

test('a child that does not get ready fails the start with the reason', async () => {
  supervisor = supervise({ ...QUICK, readyMsMax: 500 });
  const start = supervisor.start([shell('a', NEVER_READY)]);
  await expect(start).rejects.toThrow('a is not ready after 0.5 s: has not said ready');
});

test('a program that does not exist fails the start', async () => {
  const missing = { ...shell('a', ''), command: { command: '/no/such/program', args: [] } };
  await expect(supervisor.start([missing])).rejects.toThrow(/a does not start: does not run .*ENOENT/);
});

test('a stop during the start ends the wait, and nothing is started after it', async () => {
  const start = supervisor.start([shell('a', NEVER_READY)]).catch((error: unknown) => error);
  await supervisor.stop();
  expect(await start).toMatchObject({ name: 'AbortError' });
  await supervisor.start([shell('b', IDLE)]);
  expect(existsSync(pidsFile())).toBe(false);
});

test('a stop while a child waits to be started again leaves it stopped', async () => {
  await supervisor.start([shell('a', mortal())]);
  letDie();
  await until('a death', () => lines.length > 0);
  await supervisor.stop();
  expect(existsSync(pidsFile())).toBe(false);
});

test('what a killed run has left is found and ended', async () => {
  // This supervisor lives on, unlike a killed one: it must not start anything again within the test.
  supervisor = supervise({ ...QUICK, restartDelayMsMin: 60_000 });
  await supervisor.start([shell('a', IDLE), shell('b', STUBBORN, 'redis')]);
  const leftovers = findLeftovers(pidsFile());
  expect(leftovers.map(({ name }) => name)).toEqual(['a', 'b']);
  await stopLeftovers(leftovers, 300);
  for (const { pid, identity } of leftovers) expect(identityOf(pid)).not.toBe(identity);
});

test('a process that was given a recycled pid is not ours', () => {
  const recorded = {
    name: 'a',
    kind: 'vote',
    pid: process.pid,
    identity: 'x:1',
    stopSignal: 'SIGTERM',
  } as const;
  recordProcesses(pidsFile(), [recorded]);
  expect(findLeftovers(pidsFile())).toEqual([]);
});
