const UNTIL_MS_MAX = 20_000;
const POLL_INTERVAL_MS = 10;

/**
 * Polls until `condition` returns something other than `undefined` or `false` without throwing, and returns it.
 *
 * Preferred to `vi.waitFor` and `expect.poll`, because the error names the awaited condition, one default deadline suits
 * loaded machines, and it also works outside vitest: in the smoke test, the chaos run and the bench.
 *
 * @param what the condition, for the error: "the worker is ready"
 * @throws after `msMax`, with the last exception as the cause
 */
export async function until<T>(
  what: string,
  condition: () => T | Promise<T>,
  msMax = UNTIL_MS_MAX,
): Promise<Exclude<T, undefined | false>> {
  const deadline = performance.now() + msMax;
  for (;;) {
    let cause: unknown;
    try {
      const value = await condition();
      if (value !== undefined && value !== false) return value as Exclude<T, undefined | false>;
    } catch (error) {
      cause = error;
    }
    if (performance.now() > deadline) throw new Error(`not within ${msMax} ms: ${what}`, { cause });
    await new Promise((resolve) => setTimeout(resolve, POLL_INTERVAL_MS));
  }
}
