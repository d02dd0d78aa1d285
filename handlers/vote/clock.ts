/** Returns the time of a vote in microseconds since 1970, later than `after`. */
export type Clock = (after: number) => number;

/**
 * Creates the clock of a process. Its times strictly increase and exceed `after` (the last vote in the voter's token), so
 * a voter's newer choice never sorts before the older one: neither within a millisecond nor on a node whose clock lags.
 *
 * @param wallClock milliseconds since 1970; may jump in both directions
 */
export function createClock(wallClock: () => number = Date.now): Clock {
  let last = 0;
  return (after) => {
    last = Math.max(wallClock() * 1_000, last + 1, after + 1);
    return last;
  };
}

/** Formats microseconds since 1970 as RFC 3339 with all six digits of the fraction. */
export function formatMicros(micros: number): string {
  const milliseconds = new Date(Math.floor(micros / 1_000)).toISOString().slice(0, -1);
  return `${milliseconds}${String(micros % 1_000).padStart(3, '0')}Z`;
}
