import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { identityOf } from '#dev/lock.mjs';
import { ROOT } from '#dev/root.ts';
import { findLeftovers, type RecordedProcess } from '#dev/start/leftovers.ts';
import { scratchFolder, startProgram, type TestProcess } from '#kit/process.ts';
import { until } from '#kit/until.ts';

const BASE_PORT = 18_480;
const VOTE = `http://127.0.0.1:${BASE_PORT}`;
const OTHER_VOTE = `http://127.0.0.1:${BASE_PORT + 10}`;
const RESULTS = `http://127.0.0.1:${BASE_PORT + 1}/polls/cats-vs-dogs/results`;
const START_MS_MAX = 90_000;
/** Limit from the 202 to the count on an idle machine. */
const COUNTED_MS_MAX = 2_000;

let folder: Awaited<ReturnType<typeof scratchFolder>>;
const systems: TestProcess[] = [];
const dataPath = () => join(folder.path, 'data');
const pidsFile = () => join(dataPath(), 'pids.json');

beforeAll(async () => {
  folder = await scratchFolder();
});
afterAll(async () => {
  await Promise.all(systems.map((system) => system.end()));
  await folder.remove();
});

/** Starts what `npm start` runs. */
function npmStart(data = dataPath()): TestProcess {
  const system = startProgram(
    process.execPath,
    [
      join(ROOT, 'stack/dev/bootstrap.mjs'),
      join(ROOT, 'stack/dev/start/main.ts'),
      ...['--data', data, '--port', String(BASE_PORT)],
    ],
    { log: join(folder.path, `start${systems.length}.log`), env: { HOME: folder.path } },
  );
  systems.push(system);
  return system;
}

async function untilUp(system: TestProcess): Promise<string> {
  return until(
    'the system is up',
    async () => {
      const output = await system.output();
      if (system.child.exitCode !== null) throw new Error(output);
      return output.includes('Press Ctrl-C to stop') && output;
    },
    START_MS_MAX,
  );
}

/** Waits until a process exits by itself and returns its exit code. */
async function exitCodeOf({ child }: TestProcess): Promise<number | null> {
  await until('the process has exited', () => child.exitCode !== null || child.signalCode !== null);
  return child.exitCode;
}

async function vote(url: string, choice: string): Promise<void> {
  const response = await fetch(`${url}/polls/cats-vs-dogs/votes`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ choice }),
  });
  expect(response.status).toBe(202);
}

async function countedVotes(): Promise<Record<string, number>> {
  const response = await fetch(RESULTS);
  const { choices } = (await response.json()) as { choices: { id: string; votes: number }[] };
  return Object.fromEntries(choices.map(({ id, votes }) => [id, votes]));
}

async function untilCounted(cats: number, dogs: number, msMax?: number): Promise<void> {
  const isCounted = async () => {
    const counted = await countedVotes();
    return counted['cats'] === cats && counted['dogs'] === dogs;
  };
  await until(`${cats} cats and ${dogs} dogs are counted`, isCounted, msMax);
}

/** Returns all processes of a running system; a stopped one has no list of them. */
function recordedProcesses(): RecordedProcess[] {
  const processes = findLeftovers(pidsFile());
  expect(processes).toHaveLength(8);
  return processes;
}

function expectAllEnded(processes: readonly RecordedProcess[]): void {
  expect(processes.filter(({ pid, identity }) => identityOf(pid) === identity)).toEqual([]);
  expect(existsSync(pidsFile())).toBe(false);
  expect(existsSync(join(dataPath(), 'lock'))).toBe(false);
  const sockets = readdirSync(dataPath(), { recursive: true }).filter((name) =>
    String(name).endsWith('.sock'),
  );
  expect(sockets).toEqual([]);
}

test('npm start counts votes, admits one run per data folder, and leaves nothing behind when stopped', async () => {
  const system = npmStart();
  const output = await untilUp(system);
  expect(output).toContain(`Vote:       http://localhost:${BASE_PORT}/`);
  const password = readFileSync(join(dataPath(), 'secrets/dashboard.users'), 'utf8').trim().split(':')[1];
  expect(output).not.toContain(password);

  await Promise.all([vote(VOTE, 'cats'), vote(OTHER_VOTE, 'cats'), vote(OTHER_VOTE, 'dogs')]);
  await untilCounted(2, 1, COUNTED_MS_MAX);

  const refused = npmStart();
  expect(await exitCodeOf(refused)).toBe(1);
  expect(await refused.output()).toMatch(
    /^the data folder .* is in use by another npm start \(pid \d+\): stop it, or choose another with --data\n$/,
  );

  const processes = recordedProcesses();
  expect(await system.end('SIGTERM')).toBe(0);
  expectAllEnded(processes);
});

test('the next npm start continues with the same votes; the one after a kill stops the processes left and loses no vote', async () => {
  const killed = npmStart();
  await untilUp(killed);
  await untilCounted(2, 1);
  await vote(VOTE, 'dogs');
  const orphans = recordedProcesses();
  // The lock names the process of main.ts, a child of the bootstrap.
  process.kill(Number.parseInt(readFileSync(join(dataPath(), 'lock'), 'utf8'), 10), 'SIGKILL');
  expect(await exitCodeOf(killed)).toBe(137);

  const system = npmStart();
  expect(await untilUp(system)).toContain(
    'Stopping processes left by a killed run: postgres, frontend01-redis',
  );
  expect(orphans.filter((orphan) => identityOf(orphan.pid) === orphan.identity)).toEqual([]);
  await untilCounted(2, 2);
  const processes = recordedProcesses();
  expect(await system.end('SIGINT')).toBe(0);
  expectAllEnded(processes);
});

test('names a port in use in one line and starts nothing', async () => {
  const listener = createServer().listen(BASE_PORT + 2);
  await once(listener, 'listening');
  const data = join(folder.path, 'other');
  try {
    const refused = npmStart(data);
    expect(await exitCodeOf(refused)).toBe(1);
    const lines = (await refused.output()).split('\n').filter((line) => line.startsWith('port'));
    expect(lines).toEqual([
      `port ${BASE_PORT + 2} for dashboard is in use: stop the program that listens on it, or move all ports with --port`,
    ]);
    expect(readdirSync(data).toSorted()).toEqual(['frontend01', 'frontend02', 'logs', 'secrets']);
  } finally {
    listener.close();
    await once(listener, 'close');
  }
});
