/**
 * Tracks whether a process may receive work. Each part reports under its own name; the process is ready when every part
 * is.
 */
export class Readiness {
  readonly #faults = new Map<string, string>();
  #hasBeenReady = false;
  #watcher: (faults: Readonly<Record<string, string>>) => void = () => {};

  /** @param parts names of parts that are not ready until they report */
  constructor(...parts: string[]) {
    for (const part of parts) this.#faults.set(part, 'starting');
  }

  ready(part: string): void {
    if (!this.#faults.delete(part)) return;
    if (this.isReady) this.#hasBeenReady = true;
    this.#watcher(this.faults);
  }

  notReady(part: string, reason: string): void {
    if (this.#faults.get(part) === reason) return;
    this.#faults.set(part, reason);
    this.#watcher(this.faults);
  }

  /** Calls back now and on every change of the faults. Only the last watcher is called. */
  watch(watcher: (faults: Readonly<Record<string, string>>) => void): void {
    this.#watcher = watcher;
    watcher(this.faults);
  }

  /** The reasons why the process is not ready, by part; empty when it is ready. */
  get faults(): Readonly<Record<string, string>> {
    return Object.fromEntries(this.#faults);
  }

  get isReady(): boolean {
    return this.#faults.size === 0;
  }

  /** Whether the process has been ready at least once. */
  get hasBeenReady(): boolean {
    return this.#hasBeenReady;
  }
}
