const LOOK_INTERVAL_MS = 20;
/** Nothing at all has moved for so long: it never will. */
const STANDSTILL_MS_MAX = 60_000;

/**
 * Looks until a count has reached its goal, however long that takes while it moves.
 *
 * @returns the count that was seen last
 * @throws when it stands still
 */
export async function untilDone(what: string, look: () => Promise<number>, goal: number): Promise<number> {
  let last = Number.NaN;
  let movedAt = performance.now();
  for (;;) {
    const count = await look();
    if (count >= goal) return count;
    if (count !== last) movedAt = performance.now();
    if (performance.now() - movedAt > STANDSTILL_MS_MAX) {
      throw new Error(`not so: ${what}; stands still at ${count} of ${goal}`);
    }
    last = count;
    await new Promise((resolve) => setTimeout(resolve, LOOK_INTERVAL_MS));
  }
}
