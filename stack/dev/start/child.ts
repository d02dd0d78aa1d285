import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { DeadlineError, withDeadline } from '#runtime/deadline.ts';
import { StartError } from '../errors.ts';
import { type Command, describeExit, endOfFile, killGroup } from '../exec.ts';

/** How long a child may take, and how patiently it is started again. Tests have their own. */
export interface Timing {
  readonly readyMsMax: number;
  readonly checkIntervalMs: number;
  readonly stopMsMax: number;
  readonly killMsMax: number;
  readonly restartDelayMsMin: number;
  readonly restartDelayMsMax: number;
  /** A child that has lived this long is sound: its next death is met with the shortest delay again. */
  readonly soundAfterMs: number;
  /** A child that was never ready and has died this often will not get ready by trying again. */
  readonly deathsBeforeReadyMax: number;
}

export const TIMING: Timing = {
  readyMsMax: 60_000,
  checkIntervalMs: 100,
  stopMsMax: 15_000,
  killMsMax: 5_000,
  restartDelayMsMin: 250,
  restartDelayMsMax: 5_000,
  soundAfterMs: 30_000,
  deathsBeforeReadyMax: 3,
};

/** What a child is made from. */
export interface ChildSpec {
  readonly name: string;
  readonly command: Command;
  readonly env: Readonly<Record<string, string>>;
  readonly stopSignal: 'SIGTERM' | 'SIGINT';
  readonly logFile: string;
  /** Asks the child whether it is ready: why not, or `undefined` when it is. */
  readonly check: () => Promise<string | undefined>;
}

/** Hears what becomes of children. */
export interface ChildListener {
  /** A process of this child appeared or has gone; `pid` tells. */
  processChanged(): void;
  died(child: Child, how: string, lastLine: string, delayMs: number): void;
  recovered(child: Child): void;
  killed(child: Child, afterMs: number): void;
}

type State = 'stopped' | 'starting' | 'running' | 'waiting' | 'stopping';

/**
 * A process that is kept running.
 *
 *   stopped ──start──▶ starting ──check says ready──▶ running
 *                       ▲    │ exit                      │ exit
 *                  delay│    ▼                           │
 *                      waiting ◀─────────────────────────┘
 *   any ──stop──▶ stopping ──exit──▶ stopped
 *
 * The delay doubles with each death. A child that dies several times before it was ever ready ends in `stopped`.
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
  #deathsBeforeReady = 0;
  #notReadyBecause = 'not started';

  constructor(spec: ChildSpec, listener: ChildListener, timing: Timing = TIMING) {
    this.name = spec.name;
    this.logFile = spec.logFile;
    this.#spec = spec;
    this.#listener = listener;
    this.#timing = timing;
    this.#delayMs = timing.restartDelayMsMin;
    // Whoever waits for readiness hears of a failure; that nobody waits is no error.
    this.#firstReady.promise.catch(() => {});
  }

  get state(): State {
    return this.#state;
  }

  /** Of the process that runs now. */
  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /** Starts the child, once. */
  start(): void {
    if (this.#state !== 'stopped' || this.#stopping !== undefined) return;
    // What earlier runs wrote would only mislead whoever reads the end of the log.
    this.#logStart = statSync(this.logFile, { throwIfNoEntry: false })?.size ?? 0;
    this.#spawn();
  }

  /**
   * Waits until the child was ready for the first time.
   *
   * @throws StartError with the reason and the end of its log when that takes too long, or when it keeps dying;
   *   an AbortError when it is stopped before
   */
  async whenReady(): Promise<void> {
    const { readyMsMax } = this.#timing;
    try {
      await withDeadline(this.#firstReady.promise, readyMsMax, `${this.name} to get ready`);
    } catch (error) {
      if (!(error instanceof DeadlineError)) throw error;
      throw this.#startError(`is not ready after ${readyMsMax / 1_000} s: ${this.#notReadyBecause}`);
    }
  }

  /** Stops the child in order, and by force when it takes too long. Can be called twice. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  /** Ends the child and all of its group at once, for good. */
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
    let isOver = false;
    const end = (how: string) => {
      if (isOver) return;
      isOver = true;
      this.#ended(child, how);
      exited.resolve();
    };
    child.once('error', (error) => {
      // The same event says that a signal could not be sent, which ends nothing.
      if (child.pid === undefined) end(`does not run (${error.message})`);
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
      this.#notReadyBecause = fault;
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
    // Whoever is left of its group has lost its leader, and may still hold its port.
    killGroup(child.pid);
    this.#process = undefined;
    this.#listener.processChanged();
    if (this.#state === 'stopping') {
      this.#state = 'stopped';
      return;
    }
    if (!this.#wasReady) {
      this.#deathsBeforeReady += 1;
      if (this.#deathsBeforeReady >= this.#timing.deathsBeforeReadyMax) {
        this.#state = 'stopped';
        this.#firstReady.reject(this.#startError(`does not start: ${how}`));
        return;
      }
    }
    this.#restartLater(how);
  }

  #restartLater(how: string): void {
    const { restartDelayMsMin, restartDelayMsMax, soundAfterMs } = this.#timing;
    if (Date.now() - this.#startedAt >= soundAfterMs) this.#delayMs = restartDelayMsMin;
    const delayMs = this.#delayMs;
    this.#delayMs = Math.min(delayMs * 2, restartDelayMsMax);
    this.#state = 'waiting';
    if (this.#wasReady) this.#listener.died(this, how, this.#endOfLog(1).join(''), delayMs);
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
      await withDeadline(this.#exited, killMsMax, `${this.name} to end after SIGKILL`);
    }
  }

  #startError(why: string): StartError {
    return new StartError(`${this.name} ${why}`, this.#endOfLog());
  }

  #endOfLog(count?: number): string[] {
    return endOfFile(this.logFile, this.#logStart, count);
  }
}
