import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './until.ts';

/** Longer than the shutdown deadline of every process that tests start. */
const STOP_MS_MAX = 30_000;
/**
 * Vitest's workers, numbered from 1, draw ports from disjoint ranges, so that two never draw the same one. All are below
 * 32768, where Linux's ephemeral ports begin.
 */
const PORT_MIN = 20_000;
const PORTS_PER_WORKER = 1_500;
const WORKERS_MAX = 8;
const firstPort = PORT_MIN + (Number(process.env['VITEST_POOL_ID'] ?? 0) % WORKERS_MAX) * PORTS_PER_WORKER;
let drawn = Math.floor(Math.random() * PORTS_PER_WORKER);

/** A process that a test started. */
export interface TestProcess {
  readonly child: ChildProcess;
  /** The file with its standard output and error. */
  readonly log: string;
  output(): Promise<string>;
  /** Sends a signal, SIGTERM by default, and waits for the exit; returns the exit code or the signal that killed it. */
  end(signal?: NodeJS.Signals): Promise<number | NodeJS.Signals>;
}

/** Creates a temporary folder for one test file, with a path short enough for unix sockets. */
export async function scratchFolder(): Promise<{ path: string; remove: () => Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'turnout-test-'));
  return { path, remove: () => rm(path, { recursive: true, force: true, maxRetries: 5 }) };
}

/**
 * Starts a program that appends its output to the file `log`.
 *
 * Uses `spawn` rather than execa: most test files import this module, and loading execa takes 80 ms in each of them.
 *
 * @param options `env` replaces the environment, except for PATH and TZ
 */
export function startProgram(
  command: string,
  args: readonly string[],
  options: { readonly log: string; readonly env?: Record<string, string> },
): TestProcess {
  const log = openSync(options.log, 'a');
  const child = spawn(command, args, {
    stdio: ['ignore', log, log],
    ...(options.env && { env: { PATH: process.env['PATH'], TZ: 'UTC', ...options.env } }),
  });
  closeSync(log);
  return {
    child,
    log: options.log,
    output: () => readFile(options.log, 'utf8'),
    end: async (signal = 'SIGTERM') => {
      if (child.exitCode === null && child.signalCode === null) {
        const exited = once(child, 'exit');
        child.kill(signal);
        const force = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX);
        await exited;
        clearTimeout(force);
      }
      return child.exitCode ?? child.signalCode ?? 0;
    },
  };
}

/** Starts a bundle or a source file with Node; `env` replaces the environment, except for PATH and TZ. */
export function startNode(script: string, env: Record<string, string>, log: string): TestProcess {
  return startProgram(process.execPath, [script], { env, log });
}

/** Returns a port that no process listens on, and that this process has not returned before. */
export async function freePort(): Promise<number> {
  return until('a free port', async () => {
    const port = firstPort + (drawn++ % PORTS_PER_WORKER);
    const server = createServer();
    try {
      server.listen(port, '127.0.0.1');
      await once(server, 'listening');
      return port;
    } finally {
      server.close();
    }
  });
}

/** Waits until `/readyz` on the admin port of a process responds with 200. */
export async function untilReady(process: TestProcess, adminPort: number): Promise<void> {
  await until(`port ${adminPort} is ready (log: ${process.log})`, async () => {
    if (process.child.exitCode !== null) throw new Error(`the process exited: ${await process.output()}`);
    const response = await fetch(`http://127.0.0.1:${adminPort}/readyz`);
    return response.ok;
  });
}
