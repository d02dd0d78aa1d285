import assert from 'node:assert';
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { DeadlineError, withDeadline } from '#runtime/deadline.ts';
import { SHUTDOWN_MS_MAX } from '#runtime/shutdown.ts';
import { StartError } from '../errors.ts';
import { type Command, describeExit, endOfFile, killGroup } from '../exec.ts';

/** Time from the stop signal to SIGKILL. A child that finishes within its own shutdown deadline is never killed. */
export const CHILD_STOP_MS_MAX = 30_000;
assert(CHILD_STOP_MS_MAX > SHUTDOWN_MS_MAX, 'a child is killed before its shutdown deadline has passed');

/** Deadlines and restart delays of a child; tests pass their own. */
export interface Timing {
  readonly readyMsMax: number;
  readonly checkIntervalMs: number;
  readonly stopMsMax: number;
  readonly killMsMax: number;
  readonly restartDelayMsMin: number;
  readonly restartDelayMsMax: number;
  /** After this uptime the restart delay is reset to its minimum. */
  readonly stableAfterMs: number;
  /** After this many exits without ever having been ready, a child is not restarted. */
  readonly exitsBeforeReadyMax: number;
}

export const TIMING: Timing = {
  readyMsMax: 60_000,
  checkIntervalMs: 100,
  stopMsMax: CHILD_STOP_MS_MAX,
  killMsMax: 5_000,
  restartDelayMsMin: 250,
  restartDelayMsMax: 5_000,
  stableAfterMs: 30_000,
  exitsBeforeReadyMax: 3,
};

/** How to run a child. */
export interface ChildSpec {
  readonly name: string;
  readonly command: Command;
  readonly env: Readonly<Record<string, string>>;
  readonly stopSignal: 'SIGTERM' | 'SIGINT';
  readonly logFile: string;
  /** Resolves to the reason why the child is not ready, or `undefined` if it is. */
  readonly check: () => Promise<string | undefined>;
}

/** Callbacks for the events of a child. */
export interface ChildListener {
  /** The child's process has started or ended; `pid` is up to date. */
  processChanged(): void;
  /** A child that had been ready exited; it restarts after `delayMs`. */
  exited(child: Child, how: string, lastLine: string, delayMs: number): void;
  /** The child is ready again after an exit. */
  recovered(child: Child): void;
  /** The child ignored the stop signal for `afterMs`. */
  killed(child: Child, afterMs: number): void;
}

type State = 'stopped' | 'starting' | 'running' | 'waiting' | 'stopping';

/**
 * A supervised process: restarted with exponential backoff when it exits.
 *
 *   stopped ──start──▶ starting ──check passes──▶ running
 *                       ▲    │ exit                  │ exit
 *                  delay│    ▼                       │
 *                      waiting ◀─────────────────────┘
 *   any ──stop──▶ stopping ──exit──▶ stopped
 *
 * A child that exits `exitsBeforeReadyMax` times before it was ever ready ends in `stopped`.
 */
export class Child {
  readonly name: string;
  readonly logFile: string;
  readonly #spec: ChildSpec;
  readonly #listener: ChildListener;
  readonly #timing: Timing;
  readonly #firstReady = Promise.withResolvers<void>();
  #state: State = 'stopped';
  #process: ChildProcess | undefined;
  #exited: Promise<void> = Promise.resolve();
  #startedAt = 0;
  #logStart = 0;
  #delayMs: number;
  #restart: NodeJS.Timeout | undefined;
  #stopping: Promise<void> | undefined;
  #wasReady = false;
  #exitsBeforeReady = 0;
  #notReadyReason = 'not started';

  constructor(spec: ChildSpec, listener: ChildListener, timing: Timing = TIMING) {
    this.name = spec.name;
    this.logFile = spec.logFile;
    this.#spec = spec;
    this.#listener = listener;
    this.#timing = timing;
    this.#delayMs = timing.restartDelayMsMin;
    // `whenReady` reports the rejection; without a caller it must not count as unhandled.
    this.#firstReady.promise.catch(() => {});
  }

  get state(): State {
    return this.#state;
  }

  /** The pid of the current process, if one runs. */
  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** Starts the child; does nothing if it was started or stopped before. */
  start(): void {
    if (this.#state !== 'stopped' || this.#stopping !== undefined) return;
    // Errors quote the end of the log; lines of earlier runs would mislead.
    this.#logStart = statSync(this.logFile, { throwIfNoEntry: false })?.size ?? 0;
    this.#spawn();
  }

  /**
   * Waits until the child is ready for the first time.
   *
   * @throws StartError with the reason and the end of its log after `readyMsMax`, or when it keeps exiting;
   *   AbortError when it is stopped first
   */
  async whenReady(): Promise<void> {
    const { readyMsMax } = this.#timing;
    try {
      await withDeadline(this.#firstReady.promise, readyMsMax, `${this.name} to become ready`);
    } catch (error) {
      if (!(error instanceof DeadlineError)) throw error;
      throw this.#startError(`is not ready after ${readyMsMax / 1_000} s: ${this.#notReadyReason}`);
    }
  }

  /** Stops the child gracefully, and kills it after `stopMsMax`. Idempotent. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  /** Kills the child and its process group at once; it is not restarted. */
  kill(): void {
    clearTimeout(this.#restart);
    this.#firstReady.reject(new DOMException(`${this.name} was stopped`, 'AbortError'));
    this.#state = this.#process ? 'stopping' : 'stopped';
    this.#stopping ??= this.#exited;
    killGroup(this.pid);
  }

  #spawn(): void {
    const { command, env, logFile } = this.#spec;
    const log = openSync(logFile, 'a', 0o600);
    const child = spawn(command.command, command.args, {
      env,
      detached: true,
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    this.#state = 'starting';
    this.#process = child;
    this.#startedAt = Date.now();
    const exited = Promise.withResolvers<void>();
    this.#exited = exited.promise;
    let hasEnded = false;
    const end = (how: string) => {
      if (hasEnded) return;
      hasEnded = true;
      this.#ended(child, how);
      exited.resolve();
    };
    child.once('error', (error) => {
      // Node also emits `error` when a signal could not be sent; only without a pid did the start fail.
      if (child.pid === undefined) end(`cannot run (${error.message})`);
    });
    child.once('exit', (code, signal) => end(describeExit(code, signal)));
    this.#listener.processChanged();
    void this.#watch(child);
  }

  async #watch(child: ChildProcess): Promise<void> {
    const isStarting = () => this.#process === child && this.#state === 'starting';
    while (isStarting()) {
      const fault = await this.#spec.check().catch((error: unknown) => String(error));
      if (!isStarting()) return;
      if (fault === undefined) return this.#becameReady();
      this.#notReadyReason = fault;
      await sleep(this.#timing.checkIntervalMs);
    }
  }

  #becameReady(): void {
    this.#state = 'running';
    if (this.#wasReady) this.#listener.recovered(this);
    this.#wasReady = true;
    this.#firstReady.resolve();
  }

  #ended(child: ChildProcess, how: string): void {
    // The rest of its process group may still hold its port.
    killGroup(child.pid);
    this.#process = undefined;
    this.#listener.processChanged();
    if (this.#state === 'stopping') {
      this.#state = 'stopped';
      return;
    }
    if (!this.#wasReady) {
      this.#exitsBeforeReady += 1;
      if (this.#exitsBeforeReady >= this.#timing.exitsBeforeReadyMax) {
        this.#state = 'stopped';
        this.#firstReady.reject(this.#startError(`does not start: ${how}`));
        return;
      }
    }
    this.#restartLater(how);
  }

  #restartLater(how: string): void {
    const { restartDelayMsMin, restartDelayMsMax, stableAfterMs } = this.#timing;
    if (Date.now() - this.#startedAt >= stableAfterMs) this.#delayMs = restartDelayMsMin;
    const delayMs = this.#delayMs;
    this.#delayMs = Math.min(delayMs * 2, restartDelayMsMax);
    this.#state = 'waiting';
    if (this.#wasReady) this.#listener.exited(this, how, this.#endOfLog(1).join(''), delayMs);
    this.#restart = setTimeout(() => this.#spawn(), delayMs);
  }

  async #stop(): Promise<void> {
    const { stopMsMax, killMsMax } = this.#timing;
    clearTimeout(this.#restart);
    this.#firstReady.reject(new DOMException(`${this.name} was stopped`, 'AbortError'));
    if (!this.#process) {
      this.#state = 'stopped';
      return;
    }
    this.#state = 'stopping';
    this.#process.kill(this.#spec.stopSignal);
    try {
      await withDeadline(this.#exited, stopMsMax, `${this.name} to stop`);
    } catch (error) {
      if (!(error instanceof DeadlineError)) throw error;
      this.#listener.killed(this, stopMsMax);
      killGroup(this.pid);
      await withDeadline(this.#exited, killMsMax, `${this.name} to exit after SIGKILL`);
    }
  }

  #startError(why: string): StartError {
    return new StartError(`${this.name} ${why}`, this.#endOfLog());
  }

  #endOfLog(count?: number): string[] {
    return endOfFile(this.logFile, this.#logStart, count);
  }
}
