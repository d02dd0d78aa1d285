import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { killGroup } from '../exec.ts';
import { identityOf } from '../lock.mjs';
import { type Kind, STOP_ORDER } from './plan.ts';

const POLL_MS = 50;

/** A process of ours, as recorded for a later run that may have to end it. */
export interface RecordedProcess {
  readonly name: string;
  readonly kind: Kind;
  readonly pid: number;
  /** Tells the process from a later one with the same pid; see `identityOf`. */
  readonly identity: string;
  readonly stopSignal: 'SIGTERM' | 'SIGINT';
}

/** Writes down which processes run now, all of the list or nothing. An empty list leaves no file. */
export function recordProcesses(file: string, processes: readonly RecordedProcess[]): void {
  if (processes.length === 0) {
    rmSync(file, { force: true });
    return;
  }
  writeFileSync(`${file}.new`, `${JSON.stringify(processes, null, 2)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/** The recorded processes that still run, and are no others with a recycled pid. */
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
 * Ends processes that a killed run has left, in the order of an orderly stop, so that votes drain as they would have.
 *
 * @param stopMsMax after this long a group is ended by force
 */
export async function stopLeftovers(processes: readonly RecordedProcess[], stopMsMax: number): Promise<void> {
  for (const kinds of STOP_ORDER) {
    const group = processes.filter(({ kind }) => kinds.includes(kind));
    for (const leftover of group) signalIfAlive(leftover, leftover.stopSignal);
    const deadline = Date.now() + stopMsMax;
    while (group.some(isAlive) && Date.now() < deadline) await sleep(POLL_MS);
    for (const leftover of group.filter(isAlive)) killGroup(leftover.pid);
    // A process that was ended by force is gone within moments; one that is not holds its files, and must be told of.
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
    // It ended between the look and the signal.
  }
}
