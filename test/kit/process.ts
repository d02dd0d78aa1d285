import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from './until.ts';

const STOP_MS_MAX = 30_000;
/** Below 32768: above it the kernel gives ports to outgoing connections. */
const PORT_MIN = 20_000;
const PORT_MAX = 32_000;

/** A process that a test started. Its output is in `log`. */
export interface TestProcess {
  readonly child: ChildProcess;
  readonly log: string;
  output(): Promise<string>;
  /** Sends a signal and waits until the process has ended; what it ended with. */
  end(signal?: NodeJS.Signals): Promise<number | NodeJS.Signals>;
}

/** A folder of the test's own, short enough for the path of a unix socket. */
export async function scratchFolder(): Promise<{ path: string; remove: () => Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'turnout-test-'));
  return { path, remove: () => rm(path, { recursive: true, force: true, maxRetries: 5 }) };
}

/** Starts a program in the foreground; its output goes to the file `log`. */
export function startProgram(
  command: string,
  args: readonly string[],
  options: { readonly log: string; readonly env?: Record<string, string> },
): TestProcess {
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(options.env && { env: { PATH: process.env['PATH'], TZ: 'UTC', ...options.env } }),
  });
  const log = createWriteStream(options.log, { flags: 'a' });
  child.stdout.pipe(log, { end: false });
  child.stderr.pipe(log, { end: false });
  const hasEnded = (): boolean => child.exitCode !== null || child.signalCode !== null;
  return {
    child,
    log: options.log,
    output: () => readFile(options.log, 'utf8'),
    end: async (signal = 'SIGTERM') => {
      if (!hasEnded()) {
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

/** Starts one of our own processes with nothing in its environment but `env`. `script` is a bundle or a source file. */
export function startNode(script: string, env: Record<string, string>, log: string): TestProcess {
  return startProgram(process.execPath, [script], { env, log });
}

/** A port that nothing listens on. */
export async function freePort(): Promise<number> {
  return until('a free port', async () => {
    const port = PORT_MIN + Math.floor(Math.random() * (PORT_MAX - PORT_MIN));
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

/** Waits until the admin port of a process says that it is ready. */
export async function untilReady(process: TestProcess, adminPort: number): Promise<void> {
  await until(`port ${adminPort} is ready, log ${process.log}`, async () => {
    if (process.child.exitCode !== null) throw new Error(`ended: ${await process.output()}`);
    const answer = await fetch(`http://127.0.0.1:${adminPort}/readyz`);
    return answer.ok;
  });
}
