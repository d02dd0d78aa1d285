/** Returns the time of a vote in microseconds since 1970, later than `after`. */
export type Clock = (after: number) => number;

/** A token may be this far ahead of the process before it counts as one from the future. */
const SKEW_MICROS_MAX = 1_000_000;

/** How far ahead a token may be for two votes with it to keep their order, 2^28: four and a half minutes. */
const ORDERED_MICROS_MAX = 268_435_456;
/** Such votes keep their order if this time lies between them, 2^14; and each is at most so much later than its token. */
const ORDERED_MICROS_MIN = 16_384;

/**
 * Creates the clock of a process. Its times exceed `after` (the last vote in the voter's token), so a voter's newer choice
 * never sorts before the older one: neither within a millisecond nor on a node whose clock lags. Without a token from the
 * future they strictly increase.
 *
 * A token raises the time of its own vote only. If it raised the clock, one node with a fast clock would spread its error
 * through tokens to every process, and then to voters whose other votes were captured on a node with a correct clock.
 *
 * A voter whose answer was lost votes again with the same token. If it is from the future, neither clock can tell the order of the
 * two votes, but the token is less far ahead of the second: the time of a vote grows, a little, with the time that has passed.
 *
 * @param wallClock milliseconds since 1970; may jump in both directions
 * @param onFutureToken called when `after` is over a second ahead of this clock
 */
export function createClock(wallClock: () => number = Date.now, onFutureToken: () => void = () => {}): Clock {
  let last = 0;
  return (after) => {
    last = Math.max(wallClock() * 1_000, last + 1);
    if (after > last + SKEW_MICROS_MAX) onFutureToken();
    const passed = Math.max(0, ORDERED_MICROS_MAX - Math.max(0, after - last));
    return Math.max(last, after + 1 + Math.floor(passed / ORDERED_MICROS_MIN));
  };
}

/** Formats microseconds since 1970 as RFC 3339 with all six digits of the fraction. */
export function formatMicros(micros: number): string {
  const milliseconds = new Date(Math.floor(micros / 1_000)).toISOString().slice(0, -1);
  return `${milliseconds}${String(micros % 1_000).padStart(3, '0')}Z`;
}
