/**
 * Knows whether a process may be sent work. Each part reports for itself, under its own name; the process is ready
 * when every part is.
 */
export class Readiness {
  readonly #faults = new Map<string, string>();
  #hasBeenReady = false;
  #watcher: (faults: Readonly<Record<string, string>>) => void = () => {};

  /** @param parts names that count as not ready until they have reported */
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

  /** Calls back now and whenever a fault came, went or changed. There is one watcher at most. */
  watch(watcher: (faults: Readonly<Record<string, string>>) => void): void {
    this.#watcher = watcher;
    watcher(this.faults);
  }

  /** Why the process is not ready, by part; empty when it is. */
  get faults(): Readonly<Record<string, string>> {
    return Object.fromEntries(this.#faults);
  }

  get isReady(): boolean {
    return this.#faults.size === 0;
  }

  /** Whether the process has been ready at some time since it started. */
  get hasBeenReady(): boolean {
    return this.#hasBeenReady;
  }
}
