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

/** Shell programs; a line `ready` in its log makes a program ready. */
const IDLE = 'trap "echo term; exit 0" TERM; echo ready; while :; do sleep 0.02; done';
const STUBBORN = 'trap "" TERM; echo ready; while :; do sleep 0.02; done';
const BROKEN = 'echo no configuration; exit 1';
const NEVER_READY = 'while :; do sleep 0.02; done';

/** Short intervals; the deadlines stay long, so that no test fails on a loaded machine. */
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

/** Runs until `letExit` is called; from then on exits as soon as it is started. */
const exiting = () =>
  `echo ready; echo cannot go on; until [ -e ${folder.path}/exit ]; do sleep 0.01; done; exit 3`;
const letExit = () => writeFileSync(join(folder.path, 'exit'), '');

const logOf = (name: string) => readFileSync(join(folder.path, `${name}.log`), 'utf8');

function shell(name: string, script: string, kind: Kind = 'vote'): Supervised {
  return {
    name,
    kind,
    command: { command: 'sh', args: ['-c', script] },
    env: { PATH: '/usr/bin:/bin' },
    stopSignal: 'SIGTERM',
    check: async () => (logOf(name).includes('ready') ? undefined : 'the log has no line ready'),
  };
}

const pids = () => findLeftovers(pidsFile()).map(({ pid }) => pid);

test('starts services concurrently, waits until all are ready, and logs their output', async () => {
  await supervisor.start([shell('a', IDLE), shell('b', IDLE)]);
  expect(logOf('a')).toBe('ready\n');
  expect(pids()).toHaveLength(2);
});

test('stops handlers first, then readers, then stores', async () => {
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

test('kills a child that does not stop in time, with its process group, and reports it', async () => {
  supervisor = supervise({ ...QUICK, stopMsMax: 100 });
  await supervisor.start([shell('a', `sleep 300 & echo $!; ${STUBBORN}`)]);
  const inGroup = Number.parseInt(logOf('a'), 10);
  expect(identityOf(inGroup)).toBeDefined();
  await supervisor.stop();
  expect(lines).toEqual(['a did not stop within 0.1 s and was killed']);
  await until('the rest of its group has ended', () => identityOf(inGroup) === undefined);
});

test('reports an exited child with its last log line, and restarts it with exponential backoff', async () => {
  await supervisor.start([shell('a', exiting())]);
  letExit();
  await until('four exits', () => lines.filter((line) => line.includes('stopped unexpectedly')).length >= 4);
  const exits = lines.filter((line) => line.includes('stopped unexpectedly')).slice(0, 4);
  expect(exits).toEqual(
    [10, 20, 40, 40].map(
      (ms) => `a stopped unexpectedly (exit 3); restarting in ${ms} ms; last log line: cannot go on`,
    ),
  );
});

test('reports a restarted child once it is ready', async () => {
  await supervisor.start([shell('a', IDLE)]);
  const [before = 0] = pids();
  process.kill(before, 'SIGKILL');
  await until('a is back', () => lines.includes('a is ready again'));
  expect(lines[0]).toBe(
    'a stopped unexpectedly (killed by SIGKILL); restarting in 10 ms; last log line: ready',
  );
  const [after] = pids();
  expect(after).toBeDefined();
  expect(after).not.toBe(before);
});

test('resets the restart delay after a stable uptime', async () => {
  const exits: number[] = [];
  const listener: ChildListener = {
    processChanged: () => {},
    exited: (_child, _how, _lastLine, delayMs) => exits.push(delayMs),
    recovered: () => {},
    killed: () => {},
  };
  const logFile = join(folder.path, 'a.log');
  const child = new Child({ ...shell('a', exiting()), logFile }, listener, { ...QUICK, stableAfterMs: 0 });
  child.start();
  await child.whenReady();
  letExit();
  await until('four exits', () => exits.length >= 4);
  await child.stop();
  expect(new Set(exits)).toEqual(new Set([10]));
});

test('fails the start with the end of the log when a child keeps exiting before it is ready', async () => {
  const failure = await supervisor.start([shell('a', BROKEN)]).catch((error: unknown) => error);
  expect(failure).toMatchObject({
    message: 'a does not start: exit 1',
    details: Array(3).fill('no configuration'),
  });
});

test('fails the start with the reason when a child does not become ready', async () => {
  supervisor = supervise({ ...QUICK, readyMsMax: 100 });
  const start = supervisor.start([shell('a', NEVER_READY)]);
  await expect(start).rejects.toThrow('a is not ready after 0.1 s: the log has no line ready');
});

test('fails the start when a program does not exist', async () => {
  const missing = { ...shell('a', ''), command: { command: '/no/such/program', args: [] } };
  await expect(supervisor.start([missing])).rejects.toThrow(/a does not start: cannot run .*ENOENT/);
});

test('a stop ends a start in progress and prevents later ones', async () => {
  const start = supervisor.start([shell('a', NEVER_READY)]).catch((error: unknown) => error);
  await supervisor.stop();
  expect(await start).toMatchObject({ name: 'AbortError' });
  await supervisor.start([shell('b', IDLE)]);
  expect(existsSync(pidsFile())).toBe(false);
});

test('a stop cancels a pending restart', async () => {
  await supervisor.start([shell('a', exiting())]);
  letExit();
  await until('an exit', () => lines.length > 0);
  await supervisor.stop();
  expect(existsSync(pidsFile())).toBe(false);
});

test('finds and stops the processes of a killed run', async () => {
  // This supervisor still runs, unlike a killed one; it must not restart a child during the test.
  supervisor = supervise({ ...QUICK, restartDelayMsMin: 60_000 });
  await supervisor.start([shell('a', IDLE), shell('b', STUBBORN, 'redis')]);
  const leftovers = findLeftovers(pidsFile());
  expect(leftovers.map(({ name }) => name)).toEqual(['a', 'b']);
  await stopLeftovers(leftovers, 100);
  for (const { pid, identity } of leftovers) expect(identityOf(pid)).not.toBe(identity);
});

test('ignores a process with a recycled pid', () => {
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
