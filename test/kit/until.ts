const UNTIL_MS_MAX = 20_000;
const LOOK_INTERVAL_MS = 10;

/**
 * Waits until `look` gives something other than `undefined`, `false` or an exception, and returns it.
 *
 * @throws when that takes too long, naming `what` and the last exception
 */
export async function until<T>(
  what: string,
  look: () => T | Promise<T>,
  msMax = UNTIL_MS_MAX,
): Promise<Exclude<T, undefined | false>> {
  const deadline = performance.now() + msMax;
  for (;;) {
    let last: unknown;
    try {
      const seen = await look();
      if (seen !== undefined && seen !== false) return seen as Exclude<T, undefined | false>;
    } catch (error) {
      last = error;
    }
    if (performance.now() > deadline) {
      throw new Error(`not within ${msMax} ms: ${what}`, { cause: last });
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_INTERVAL_MS));
  }
}
