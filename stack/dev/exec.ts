import { spawn } from 'node:child_process';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { StartError } from './errors.ts';

const OUTPUT_LINES_SHOWN = 20;
/** A log grows for as long as its process lives; its end is enough. */
const FILE_BYTES_READ_MAX = 16_384;

/** A program and its arguments. */
export interface Command {
  readonly command: string;
  readonly args: readonly string[];
}

export interface RunOptions {
  /** For messages: "the build". */
  readonly what: string;
  readonly msMax: number;
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Given to the program's standard input. */
  readonly input?: string;
  /** Ends the program at once. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs a program to its end, in a process group of its own so that Ctrl-C reaches it only through us.
 *
 * @returns what it wrote to standard output and standard error
 * @throws StartError when it does not run, takes too long, or exits with anything but 0; the details are its last lines
 */
export async function run({ command, args }: Command, options: RunOptions): Promise<string> {
  const { what, msMax, env, cwd, input, signal } = options;
  signal?.throwIfAborted();
  const child = spawn(command, args, { env, cwd, detached: true, stdio: ['pipe', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  // A program that ends before it has read its input is judged by its exit code alone.
  child.stdin.on('error', () => {});
  child.stdin.end(input);

  let isLate = false;
  const end = () => killGroup(child.pid);
  const timer = setTimeout(() => {
    isLate = true;
    end();
  }, msMax);
  signal?.addEventListener('abort', end);
  try {
    const fault = await new Promise<string | undefined>((resolve) => {
      child.once('error', (error) => resolve(`does not run (${error.message})`));
      child.once('close', (code, by) => resolve(code === 0 ? undefined : describeExit(code, by)));
    });
    signal?.throwIfAborted();
    if (isLate) throw new StartError(`${what} took over ${msMax / 1_000} s`, lastLines(output));
    if (fault) throw new StartError(`${what} failed: ${fault}`, lastLines(output));
    return output;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', end);
  }
}

/** How a process ended, for people. */
export function describeExit(code: number | null, signal: NodeJS.Signals | null): string {
  return signal ? `ended by ${signal}` : `exit ${code}`;
}

/** Ends a process group at once. That it no longer exists is what we wanted. */
export function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // ESRCH: nobody is left. EPERM cannot be: the group is ours.
  }
}

/** The last lines of a text that are not empty. */
function lastLines(text: string, count: number = OUTPUT_LINES_SHOWN): string[] {
  return text.split('\n').filter(Boolean).slice(-count);
}

/** The last lines of a file that are not empty, those before the offset `from` left out; none when it cannot be read. */
export function endOfFile(path: string, from: number = 0, count?: number): string[] {
  try {
    const file = openSync(path, 'r');
    try {
      const start = Math.max(from, fstatSync(file).size - FILE_BYTES_READ_MAX);
      const buffer = Buffer.alloc(FILE_BYTES_READ_MAX);
      return lastLines(buffer.toString('utf8', 0, readSync(file, buffer, 0, buffer.length, start)), count);
    } finally {
      closeSync(file);
    }
  } catch {
    return [];
  }
}
