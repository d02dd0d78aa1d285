/** Gives the time of a vote in microseconds since 1970. */
export type Clock = (after: number) => number;

/**
 * Makes the clock of a process. Its times strictly increase, and are always later than `after` (the last vote in the
 * voter's token), so neither two votes within a millisecond nor a node whose clock lags can put a voter's newer choice
 * before the older one.
 *
 * @param wallClock milliseconds since 1970; may jump, in both directions
 */
export function createClock(wallClock: () => number = Date.now): Clock {
  let last = 0;
  return (after) => {
    last = Math.max(wallClock() * 1_000, last + 1, after + 1);
    return last;
  };
}

/** Writes microseconds since 1970 as RFC 3339 text, all six digits of the fraction kept. */
export function formatMicros(micros: number): string {
  const milliseconds = Math.floor(micros / 1_000);
  const rest = String(micros % 1_000).padStart(3, '0');
  return `${new Date(milliseconds).toISOString().slice(0, -1)}${rest}Z`;
}
