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

const MICROS_PER_SECOND = 1_000_000;
/** The second that was written last: of all votes in it only the fraction differs. */
let written = { second: 0, text: '1970-01-01T00:00:00' };

/** Writes microseconds since 1970 as RFC 3339 text, all six digits of the fraction kept. */
export function formatMicros(micros: number): string {
  const second = Math.floor(micros / MICROS_PER_SECOND);
  if (second !== written.second) {
    written = { second, text: new Date(second * 1_000).toISOString().slice(0, 19) };
  }
  return `${written.text}.${String(micros % MICROS_PER_SECOND).padStart(6, '0')}Z`;
}
