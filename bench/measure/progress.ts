const POLL_INTERVAL_MS = 20;
const STALL_MS_MAX = 60_000;

/**
 * Polls a count until it reaches `goal`, without a deadline while the count changes.
 *
 * @returns the last count
 * @throws when the count has not changed for a minute
 */
export async function untilDone(what: string, read: () => Promise<number>, goal: number): Promise<number> {
  let last = Number.NaN;
  let changedAt = performance.now();
  for (;;) {
    const count = await read();
    if (count >= goal) return count;
    if (count !== last) changedAt = performance.now();
    if (performance.now() - changedAt > STALL_MS_MAX) {
      throw new Error(`${what}: stalled at ${count} of ${goal}`);
    }
    last = count;
    await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
  }
}
