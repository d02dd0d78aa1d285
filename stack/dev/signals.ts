/**
 * One Ctrl-C may arrive several times: from the terminal, from npm, from a `timeout` that signals the whole group.
 * Signals this soon after the first count as the same key press.
 */
const REPEAT_IGNORED_MS = 500;

/** What the user asked to stop, and how urgently. */
export interface Interrupt {
  /** Aborted by the first signal: stop gracefully. */
  readonly stop: AbortSignal;
  /** Aborted by the second signal: stop at once. */
  readonly force: AbortSignal;
}

/** Handles SIGINT, SIGTERM and SIGHUP (the terminal was closed). */
export function listenForSignals(): Interrupt {
  const stop = new AbortController();
  const force = new AbortController();
  let firstAt = 0;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (!stop.signal.aborted) {
        firstAt = Date.now();
        stop.abort();
      } else if (Date.now() - firstAt > REPEAT_IGNORED_MS) {
        force.abort();
      }
    });
  }
  return { stop: stop.signal, force: force.signal };
}
