/**
 * How a crowd arrives: nothing, then all at once, then ever fewer. The rate jumps to its peak and falls exponentially,
 *
 *   rate(t) = peak · e^(-t / decay),   peak · decay = voters
 *
 * with the decay chosen so that `SHARE_WITHIN` of the crowd has come when the given time is over. That is harsher than
 * any curve that rises gently, and a node that bears the peak bears all of it.
 */
export interface Curve {
  readonly voters: number;
  readonly decaySeconds: number;
  readonly peakPerSecond: number;
}

/** The share of the crowd that "within so many minutes" means. */
export const SHARE_WITHIN = 0.95;

/** @param seconds in which `SHARE_WITHIN` of the voters come; more than 0 */
export function curveOf(voters: number, seconds: number): Curve {
  const decaySeconds = seconds / -Math.log(1 - SHARE_WITHIN);
  return { voters, decaySeconds, peakPerSecond: voters / decaySeconds };
}

/** How many have come by then. */
export function arrivedBy({ voters, decaySeconds }: Curve, seconds: number): number {
  return voters * (1 - Math.exp(-Math.max(0, seconds) / decaySeconds));
}

/** A queue between such a crowd and those who count at a steady pace. */
export interface Backlog {
  /** Votes that wait when the most of them do. */
  readonly longest: number;
  /** From the first vote until the last is counted, in seconds. */
  readonly emptyAfterSeconds: number;
}

/**
 * The queue grows until the arrivals have fallen to the pace, at t = decay · ln(peak / pace), and shrinks from then on.
 *
 * @param pacePerSecond votes counted a second; more than 0
 */
export function backlogOf(curve: Curve, pacePerSecond: number): Backlog {
  const { voters, decaySeconds, peakPerSecond } = curve;
  if (pacePerSecond >= peakPerSecond) {
    // Nothing waits, and "the last one" of an exponential tail is when less than one vote is still to come.
    return { longest: 0, emptyAfterSeconds: decaySeconds * Math.log(Math.max(voters, Math.E)) };
  }
  const turn = decaySeconds * Math.log(peakPerSecond / pacePerSecond);
  const longest = arrivedBy(curve, turn) - pacePerSecond * turn;
  return { longest, emptyAfterSeconds: emptyTime(curve, pacePerSecond, turn) };
}

/** When as many are counted as have come, after the turn; by bisection. */
function emptyTime(curve: Curve, pacePerSecond: number, turn: number): number {
  let [low, high] = [turn, curve.voters / pacePerSecond + 1];
  for (let step = 0; step < 60; step++) {
    const middle = (low + high) / 2;
    if (arrivedBy(curve, middle) > pacePerSecond * middle) low = middle;
    else high = middle;
  }
  return high;
}
