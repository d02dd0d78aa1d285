import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { execa } from 'execa';
import { StartError } from './errors.ts';

const OUTPUT_LINES_SHOWN = 20;
/** Bytes read from the end of a log, which grows as long as its process runs. */
const FILE_BYTES_READ_MAX = 16_384;

/** A program and its arguments. */
export interface Command {
  readonly command: string;
  readonly args: readonly string[];
}

export interface RunOptions {
  /** Subject of the error message: "the build". */
  readonly what: string;
  readonly msMax: number;
  /** Replaces this process's environment. */
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Written to the program's standard input. */
  readonly input?: string;
  /** Kills the program when aborted. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs a program to its end in a process group of its own, and returns its standard output and error, interleaved.
 *
 * Because of the group, Ctrl-C on the terminal reaches only this process, which decides what to do.
 *
 * @throws StartError when the program does not run, exceeds `msMax` or fails; the details are its last lines.
 *   The signal's reason when aborted.
 */
export async function run({ command, args }: Command, options: RunOptions): Promise<string> {
  const { what, msMax, env, cwd, input = '', signal } = options;
  signal?.throwIfAborted();
  const program = execa(command, args, {
    all: true,
    // `cleanup` would install signal handlers, which may end this process before its own handlers are done.
    cleanup: false,
    extendEnv: env === undefined,
    input,
    killDescendants: true,
    killSignal: 'SIGKILL',
    reject: false,
    stripFinalNewline: false,
    timeout: msMax,
    ...(cwd !== undefined && { cwd }),
    ...(env && { env }),
    ...(signal && { cancelSignal: signal }),
  });
  // SIGTERM, so that apt-get and mmdebstrap clean up.
  const terminate = () => killGroup(program.pid, 'SIGTERM');
  process.once('exit', terminate);
  const result = await program;
  process.off('exit', terminate);
  const { all = '', failed, timedOut, exitCode, originalMessage } = result;
  signal?.throwIfAborted();
  if (timedOut) throw new StartError(`${what} took over ${msMax / 1_000} s`, lastLines(all));
  if (!failed) return all;
  const isStarted = exitCode !== undefined || result.signal !== undefined;
  const fault = isStarted
    ? describeExit(exitCode ?? null, result.signal ?? null)
    : `cannot run ${command} (${originalMessage})`;
  throw new StartError(`${what} failed: ${fault}`, lastLines(all));
}

/** Describes how a process ended: `exit 1`, `killed by SIGKILL`. */
export function describeExit(code: number | null, signal: NodeJS.Signals | null): string {
  return signal ? `killed by ${signal}` : `exit ${code}`;
}

/** Sends a signal to a process group, if it still exists. */
export function killGroup(pid: number | undefined, signal: NodeJS.Signals = 'SIGKILL'): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch {
    // ESRCH: every process of the group has ended. EPERM is impossible, because this process started the group.
  }
}

/** Returns the last non-empty lines of a text. */
function lastLines(text: string, count: number = OUTPUT_LINES_SHOWN): string[] {
  return text.split('\n').filter(Boolean).slice(-count);
}

/** Returns the last non-empty lines of a file after the offset `from`; none if it cannot be read. */
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
