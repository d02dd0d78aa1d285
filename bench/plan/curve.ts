/**
 * The arrival of a crowd: the rate jumps to its peak and decays exponentially,
 *
 *   rate(t) = peak · e^(-t / decay),   peak · decay = voters
 *
 * where the decay is chosen so that `SHARE_WITHIN` of the crowd has arrived within the given time. Any curve with a gentle
 * rise has a lower peak.
 */
export interface Curve {
  readonly voters: number;
  readonly decaySeconds: number;
  readonly peakPerSecond: number;
}

/** The share of the crowd that arrives within the given time. */
export const SHARE_WITHIN = 0.95;

/** @param seconds in which `SHARE_WITHIN` of the voters arrive; positive */
export function curveOf(voters: number, seconds: number): Curve {
  const decaySeconds = seconds / -Math.log(1 - SHARE_WITHIN);
  return { voters, decaySeconds, peakPerSecond: voters / decaySeconds };
}

/** Returns how many voters have arrived after `seconds`. */
export function arrivedBy({ voters, decaySeconds }: Curve, seconds: number): number {
  return voters * (1 - Math.exp(-Math.max(0, seconds) / decaySeconds));
}

/** The queue between a crowd and a constant drain rate. */
export interface Backlog {
  /** The maximum number of waiting votes. */
  readonly votesMax: number;
  /** From the first vote until the last is counted. */
  readonly emptyAfterSeconds: number;
}

/**
 * Returns the backlog of a crowd. It grows until the arrival rate has fallen to the drain rate, at
 * t = decay · ln(peak / drain rate), and shrinks from then on.
 *
 * @param drainedPerSecond positive
 */
export function backlogOf(curve: Curve, drainedPerSecond: number): Backlog {
  const { voters, decaySeconds, peakPerSecond } = curve;
  if (drainedPerSecond >= peakPerSecond) {
    // No vote waits. An exponential tail ends, by convention, when less than one voter is still to arrive.
    return { votesMax: 0, emptyAfterSeconds: decaySeconds * Math.log(Math.max(voters, Math.E)) };
  }
  const turn = decaySeconds * Math.log(peakPerSecond / drainedPerSecond);
  const votesMax = arrivedBy(curve, turn) - drainedPerSecond * turn;
  return { votesMax, emptyAfterSeconds: emptyTime(curve, drainedPerSecond, turn) };
}

/** Returns when the backlog is empty, by bisection; it is not before `turn`. */
function emptyTime(curve: Curve, drainedPerSecond: number, turn: number): number {
  let [low, high] = [turn, curve.voters / drainedPerSecond + 1];
  for (let step = 0; step < 60; step++) {
    const middle = (low + high) / 2;
    if (arrivedBy(curve, middle) > drainedPerSecond * middle) low = middle;
    else high = middle;
  }
  return high;
}
