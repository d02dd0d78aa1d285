import { withDeadline } from './deadline.ts';
import type { Log } from './log.ts';

/** The longest that an orderly stop may take; `stop_grace_period` in the stack file is longer. */
export const SHUTDOWN_MS_MAX = 25_000;

/**
 * Stops a process in order. What was set up last is taken down first, so each part still has what it stands on.
 *
 * running ──signal──▶ stopping ──all steps done──▶ exit 0
 *                        └──same signal again, or SHUTDOWN_MS_MAX──▶ exit 1
 */
export class Shutdown {
  readonly #log: Log;
  readonly #steps: { name: string; run: () => Promise<void> | void }[] = [];
  #stopping: Promise<void> | undefined;

  constructor(log: Log) {
    this.#log = log;
  }

  get isStopping(): boolean {
    return this.#stopping !== undefined;
  }

  /** Registers what has to be undone. Steps run one after the other, the last registered first. */
  defer(name: string, run: () => Promise<void> | void): void {
    this.#steps.push({ name, run });
  }

  /** Runs all steps once; later calls share the first one's promise. A step that throws does not stop the others. */
  stop(reason: string): Promise<void> {
    this.#stopping ??= this.#run(reason);
    return this.#stopping;
  }

  async #run(reason: string): Promise<void> {
    this.#log.info('stopping', { reason });
    for (const { name, run } of this.#steps.toReversed()) {
      try {
        await run();
      } catch (error) {
        this.#log.error('a step of the shutdown failed', { step: name, error });
      }
    }
    this.#log.info('stopped', { reason });
  }

  /**
   * Takes over SIGTERM and SIGINT: the first stops in order, the same once more at once. Ctrl-C reaches all processes of
   * a terminal; one whose parent then stops it in order as well gets two that are not the same, and goes on in order.
   */
  listen(): void {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      let isRepeated = false;
      process.on(signal, () => {
        if (isRepeated) process.exit(1);
        isRepeated = true;
        void withDeadline(this.stop(signal), SHUTDOWN_MS_MAX, 'the shutdown').then(
          () => process.exit(0),
          (error: unknown) => {
            this.#log.error('gave up stopping in order', { error });
            process.exit(1);
          },
        );
      });
    }
  }
}
