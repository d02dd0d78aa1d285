/**
 * One Ctrl-C can reach us several times: from the terminal, from npm, from a `timeout` that tells a whole group. What
 * comes this soon after the first is the same key press.
 */
const SAME_PRESS_MS = 500;

/** What the user wants to end, and how urgently. */
export interface Interrupt {
  /** Aborted by the first signal: stop in order. */
  readonly stop: AbortSignal;
  /** Aborted by the second: stop at once. */
  readonly force: AbortSignal;
}

/** Takes over SIGINT, SIGTERM and SIGHUP (a terminal that was closed). */
export function listenForSignals(): Interrupt {
  const stop = new AbortController();
  const force = new AbortController();
  let firstAt = 0;
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      if (!stop.signal.aborted) {
        firstAt = Date.now();
        stop.abort();
      } else if (Date.now() - firstAt > SAME_PRESS_MS) {
        force.abort();
      }
    });
  }
  return { stop: stop.signal, force: force.signal };
}
