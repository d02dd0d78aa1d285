import type { Sample } from '../measure/sample.ts';

/** What a scenario receives from the command line, and where it reports. */
export interface Bench {
  readonly isQuick: boolean;
  readonly rounds: number;
  record(sample: Sample): void;
  /** Shows the current step. */
  progress(text: string): void;
}

export interface Scenario {
  readonly name: string;
  /** What it measures, in one line. */
  readonly title: string;
  run(bench: Bench): Promise<void>;
}

/** One side in one round. */
export interface Turn<T> {
  readonly round: number;
  readonly side: T;
}

/**
 * Returns every side once a round, in an order that is reversed every round, so that drift of the machine and effects of
 * the position are spread over all sides.
 */
export function interleave<T>(sides: readonly T[], rounds: number): Turn<T>[] {
  return Array.from({ length: rounds }, (_, index) => {
    const order = index % 2 === 0 ? sides : sides.toReversed();
    return order.map((side) => ({ round: index + 1, side }));
  }).flat();
}
