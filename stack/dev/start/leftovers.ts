import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { killGroup } from '../exec.ts';
import { identityOf } from '../lock.mjs';
import { type Kind, STOP_ORDER } from './plan.ts';

const POLL_MS = 50;

/** A child process as recorded for a later run, which stops it if this run is killed. */
export interface RecordedProcess {
  readonly name: string;
  readonly kind: Kind;
  readonly pid: number;
  /** Distinguishes the process from a later one with the same pid; see `identityOf`. */
  readonly identity: string;
  readonly stopSignal: 'SIGTERM' | 'SIGINT';
}

/** Replaces the list of running processes atomically; an empty list removes the file. */
export function recordProcesses(file: string, processes: readonly RecordedProcess[]): void {
  if (processes.length === 0) {
    rmSync(file, { force: true });
    return;
  }
  writeFileSync(`${file}.new`, `${JSON.stringify(processes, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/** Returns the recorded processes that still run. */
export function findLeftovers(file: string): RecordedProcess[] {
  return readRecorded(file).filter(isAlive);
}

function readRecorded(file: string): RecordedProcess[] {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as RecordedProcess[];
  } catch (error) {
    const isMissingOrBroken =
      (error as NodeJS.ErrnoException).code === 'ENOENT' || error instanceof SyntaxError;
    if (isMissingOrBroken) return [];
    throw error;
  }
}

/**
 * Stops the processes that a killed run left, in the order of a graceful stop, so that votes drain.
 *
 * @param stopMsMax time from the stop signal to SIGKILL
 */
export async function stopLeftovers(processes: readonly RecordedProcess[], stopMsMax: number): Promise<void> {
  for (const kinds of STOP_ORDER) {
    const group = processes.filter(({ kind }) => kinds.includes(kind));
    for (const leftover of group) signalIfAlive(leftover, leftover.stopSignal);
    const deadline = Date.now() + stopMsMax;
    while (group.some(isAlive) && Date.now() < deadline) await sleep(POLL_MS);
    for (const leftover of group.filter(isAlive)) killGroup(leftover.pid);
    // The next step reuses the files and ports of these processes.
    while (group.some(isAlive) && Date.now() < deadline + stopMsMax) await sleep(POLL_MS);
  }
}

function isAlive({ pid, identity }: RecordedProcess): boolean {
  return identityOf(pid) === identity;
}

function signalIfAlive(leftover: RecordedProcess, signal: NodeJS.Signals): void {
  if (!isAlive(leftover)) return;
  try {
    process.kill(leftover.pid, signal);
  } catch {
    // It ended after the check.
  }
}
