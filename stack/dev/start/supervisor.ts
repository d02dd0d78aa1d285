import { join } from 'node:path';
import { identityOf } from '../lock.mjs';
import { Child, type ChildListener, TIMING, type Timing } from './child.ts';
import { type RecordedProcess, recordProcesses } from './leftovers.ts';
import { type ServicePlan, STOP_ORDER } from './plan.ts';

/** A service as the supervisor runs it. */
export type Supervised = Pick<ServicePlan, 'name' | 'kind' | 'command' | 'env' | 'stopSignal'> & {
  /** Resolves to the reason why the service is not ready, or `undefined` if it is. */
  readonly check: () => Promise<string | undefined>;
};

export interface SupervisorOptions {
  /** Holds one log file for each service; must exist. */
  readonly logFolder: string;
  /** Lists the running processes, so that the next run can stop them if this one is killed. */
  readonly pidsFile: string;
  /** Called with one line for each event that the user should see. */
  readonly report: (line: string) => void;
  readonly timing?: Timing;
}

/** Keeps the processes of the system running, and stops them in the order of `STOP_ORDER`. */
export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #children: { readonly service: Supervised; readonly child: Child }[] = [];
  #stopping: Promise<void> | undefined;
  #isForced = false;

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  /** Whether a service was ever started. */
  get hasChildren(): boolean {
    return this.#children.length > 0;
  }

  /** Returns the log file of a service. */
  logFileOf(name: string): string {
    return join(this.#options.logFolder, `${name}.log`);
  }

  /**
   * Starts services concurrently and waits until all are ready. Does nothing after a stop.
   *
   * @throws StartError of the first service that does not become ready
   */
  async start(services: readonly Supervised[]): Promise<void> {
    if (this.#stopping || this.#isForced) return;
    const started = services.map((service) => {
      const logFile = this.logFileOf(service.name);
      const child = new Child({ ...service, logFile }, this.#listener, this.#timing);
      this.#children.push({ service, child });
      return child;
    });
    for (const child of started) child.start();
    await Promise.all(started.map((child) => child.whenReady()));
  }

  /** Stops all services: the groups of `STOP_ORDER` one after the other, each concurrently. Idempotent. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  /** Kills every process at once; none is restarted. */
  killAll(): void {
    this.#isForced = true;
    for (const { child } of this.#children) child.kill();
  }

  async #stop(): Promise<void> {
    const failed: unknown[] = [];
    for (const kinds of STOP_ORDER) {
      const group = this.#children.filter(({ service }) => kinds.includes(service.kind));
      const outcomes = await Promise.allSettled(group.map(({ child }) => child.stop()));
      failed.push(...outcomes.filter((outcome) => outcome.status === 'rejected').map(({ reason }) => reason));
    }
    if (failed.length > 0)
      throw new AggregateError(failed, failed.map((error) => (error as Error).message).join('; '));
  }

  get #timing(): Timing {
    return this.#options.timing ?? TIMING;
  }

  readonly #listener: ChildListener = {
    processChanged: () => recordProcesses(this.#options.pidsFile, this.#processes()),
    exited: ({ name }, how, lastLine, delayMs) => {
      const log = lastLine && `; last log line: ${lastLine}`;
      this.#options.report(`${name} stopped unexpectedly (${how}); restarting in ${delayMs} ms${log}`);
    },
    recovered: ({ name }) => this.#options.report(`${name} is ready again`),
    killed: ({ name }, afterMs) =>
      this.#options.report(`${name} did not stop within ${afterMs / 1_000} s and was killed`),
  };

  #processes(): RecordedProcess[] {
    return this.#children.flatMap(({ service: { name, kind, stopSignal }, child: { pid } }) => {
      const identity = pid === undefined ? undefined : identityOf(pid);
      return pid === undefined || identity === undefined ? [] : [{ name, kind, pid, identity, stopSignal }];
    });
  }
}
