import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { StartError } from '#dev/errors.ts';
import { killGroup } from '#dev/exec.ts';
import { findLeftovers, type RecordedProcess } from '#dev/start/leftovers.ts';

/** What is killed, and when, as a share of the rehearsal. `npm start` restarts each. */
const PLAN = [
  { kind: 'worker', at: 0.15 },
  { kind: 'vote', at: 0.3 },
  { kind: 'redis', at: 0.5 },
  { kind: 'postgres', at: 0.7 },
] as const satisfies readonly { kind: RecordedProcess['kind']; at: number }[];

/** A fault that was injected. */
export interface Fault {
  readonly atSeconds: number;
  /** The name of the killed process, or why none was. */
  readonly what: string;
}

/** @throws StartError when the folder holds no running system */
export function requireProcesses(data: string): void {
  if (findLeftovers(pidsFile(data)).length === 0)
    throw new StartError(`--faults needs a running npm start, and none runs on ${data}`);
}

/** Kills one process of each kind with SIGKILL. @returns the faults once all are injected, or once it is aborted */
export async function injectFaults(data: string, seconds: number, signal: AbortSignal): Promise<Fault[]> {
  const startedAt = performance.now();
  const elapsed = (): number => (performance.now() - startedAt) / 1_000;
  const faults: Fault[] = [];
  for (const { kind, at } of PLAN) {
    const msLeft = Math.max(0, (at * seconds - elapsed()) * 1_000);
    await sleep(msLeft, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) break;
    const victim = findLeftovers(pidsFile(data)).find((process) => process.kind === kind);
    killGroup(victim?.pid);
    faults.push({
      atSeconds: elapsed(),
      what: victim ? `${victim.name} killed` : `no ${kind} was running`,
    });
  }
  return faults;
}

function pidsFile(data: string): string {
  return join(data, 'pids.json');
}
