/**
 * Knows whether a process may be sent work. Each part reports for itself, under its own name; the process is ready
 * when every part is.
 */
export class Readiness {
  readonly #faults = new Map<string, string>();

  /** @param parts names that count as not ready until they have reported */
  constructor(...parts: string[]) {
    for (const part of parts) this.#faults.set(part, 'starting');
  }

  ready(part: string): void {
    this.#faults.delete(part);
  }

  notReady(part: string, because: string): void {
    this.#faults.set(part, because);
  }

  /** Why the process is not ready, by part; empty when it is. */
  get faults(): Readonly<Record<string, string>> {
    return Object.fromEntries(this.#faults);
  }

  get isReady(): boolean {
    return this.#faults.size === 0;
  }
}
