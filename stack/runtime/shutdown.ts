import { withDeadline } from './deadline.ts';
import type { Log } from './log.ts';

/** Longest graceful stop. Supervisors wait longer: `stop_grace_period` in turnout.yml, `CHILD_STOP_MS_MAX` of `npm start`. */
export const SHUTDOWN_MS_MAX = 25_000;

/**
 * Stops a process gracefully: parts stop in the reverse order of their set-up, so that each still has its dependencies.
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

  /** Registers a step. Steps run one after the other, the last registered first. */
  defer(name: string, run: () => Promise<void> | void): void {
    this.#steps.push({ name, run });
  }

  /** Runs all steps once; later calls share the first one's promise. A step that throws does not stop the others. */
  stop(reason: string): Promise<void> {
    this.#stopping ??= this.#run(reason);
    return this.#stopping;
  }

  /** Stops gracefully, then exits with `code`; with 1 after `SHUTDOWN_MS_MAX`. The first call decides the code. */
  async exit(reason: string, code: number): Promise<never> {
    try {
      await withDeadline(this.stop(reason), SHUTDOWN_MS_MAX, 'the shutdown');
    } catch (error) {
      this.#log.error('graceful stop failed', { error });
      process.exit(1);
    }
    process.exit(code);
  }

  async #run(reason: string): Promise<void> {
    this.#log.info('stopping', { reason });
    for (const { name, run } of this.#steps.toReversed()) {
      try {
        await run();
      } catch (error) {
        this.#log.error('shutdown step failed', { step: name, error });
      }
    }
    this.#log.info('stopped', { reason });
  }

  /**
   * Handles SIGTERM and SIGINT: the first signal stops gracefully, the same signal again stops at once. Ctrl-C reaches every
   * process of a terminal; a parent may then send SIGTERM as well, which is a different signal and changes nothing.
   */
  listen(): void {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      let isRepeated = false;
      process.on(signal, () => {
        if (isRepeated) process.exit(1);
        isRepeated = true;
        void this.exit(signal, 0);
      });
    }
  }
}
