import { join } from 'node:path';
import { identityOf } from '../lock.mjs';
import { Child, type ChildListener, TIMING, type Timing } from './child.ts';
import { type RecordedProcess, recordProcesses } from './leftovers.ts';
import { type Kind, type Service, STOP_ORDER } from './plan.ts';

/** What the supervisor needs to know of a service. */
export type Supervised = Pick<Service, 'name' | 'kind' | 'command' | 'env' | 'stopSignal'> & {
  /** Why the service is not ready; `undefined` when it is. */
  readonly check: () => Promise<string | undefined>;
};

export interface SupervisorOptions {
  /** A log file for each service appears here; must exist. */
  readonly logFolder: string;
  /** Lists the processes that run now, for a run that comes after this one was killed. */
  readonly pidsFile: string;
  /** One line for people. */
  readonly report: (line: string) => void;
  readonly timing?: Timing;
}

/** Keeps the processes of the system running, and stops them in order. */
export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #children: { readonly kind: Kind; readonly service: Supervised; readonly child: Child }[] = [];
  #stopping: Promise<void> | undefined;
  #isForced = false;

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  /** Whether anything was ever started. */
  get hasChildren(): boolean {
    return this.#children.length > 0;
  }

  /** Where the output of a service is kept. */
  logFileOf(name: string): string {
    return join(this.#options.logFolder, `${name}.log`);
  }

  /**
   * Starts services side by side and waits until all are ready.
   *
   * @throws StartError of the first that does not get ready
   */
  async start(services: readonly Supervised[]): Promise<void> {
    if (this.#stopping || this.#isForced) return;
    const started = services.map((service) => {
      const { name, kind } = service;
      const child = new Child({ ...service, logFile: this.logFileOf(name) }, this.#listener, this.#timing);
      this.#children.push({ kind, service, child });
      return child;
    });
    for (const child of started) child.start();
    await Promise.all(started.map((child) => child.whenReady()));
  }

  /** Stops everything: one group after the other, each side by side. Can be called twice. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stopInOrder();
    return this.#stopping;
  }

  /** Ends every process at once. Nothing is restarted after it. */
  killAll(): void {
    this.#isForced = true;
    for (const { child } of this.#children) child.kill();
  }

  async #stopInOrder(): Promise<void> {
    const failed: unknown[] = [];
    for (const kinds of STOP_ORDER) {
      const group = this.#children.filter(({ kind }) => kinds.includes(kind));
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
    died: ({ name }, how, lastLine, delayMs) => {
      const log = lastLine && `, its last line: ${lastLine}`;
      this.#options.report(`${name} died (${how}), starting it again in ${delayMs} ms${log}`);
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
