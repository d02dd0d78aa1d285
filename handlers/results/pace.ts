/** How far back the pace is measured. */
const WINDOW_MS = 60_000;
/** Shortest time from which a pace is given. */
const SPAN_MS_MIN = 10_000;
/** Readings kept: one each second, see `READ_INTERVAL_MS`. */
const READINGS_MAX = 64;

/** Votes accepted in a second, over the last minute. It keeps a bounded number of readings. */
export class Pace {
  readonly #readings: { readonly at: number; readonly accepted: number }[] = [];

  /**
   * Records a reading. @returns votes a second; null until there are readings of 10 s
   * @param at monotonic, in milliseconds
   */
  add(at: number, accepted: number): number | null {
    const readings = this.#readings;
    readings.push({ at, accepted });
    while (readings.length > READINGS_MAX || at - (readings[0]?.at ?? at) > WINDOW_MS) readings.shift();
    const [first] = readings;
    if (!first || at - first.at < SPAN_MS_MIN) return null;
    // A restored backup has accepted less.
    return Math.max(0, accepted - first.accepted) / ((at - first.at) / 1_000);
  }
}
