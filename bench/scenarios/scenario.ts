import type { Sample } from '../measure/sample.ts';

/** How thoroughly to measure. */
interface Effort {
  readonly isQuick: boolean;
  readonly rounds: number;
}

/** What a scenario gets. */
export interface Bench extends Effort {
  record(sample: Sample): void;
  /** Says what is being done now. */
  progress(text: string): void;
}

export interface Scenario {
  readonly name: string;
  /** What it shows, in one line. */
  readonly title: string;
  run(bench: Bench): Promise<void>;
}

/** A turn of one side. */
export interface Turn<T> {
  readonly round: number;
  readonly side: T;
}

/**
 * Every side once a round, the order reversed every round: whatever drifts on the machine, meanwhile or with the
 * position, meets all sides alike.
 */
export function interleave<T>(sides: readonly T[], rounds: number): Turn<T>[] {
  return Array.from({ length: rounds }, (_, index) => {
    const order = index % 2 === 0 ? sides : sides.toReversed();
    return order.map((side) => ({ round: index + 1, side }));
  }).flat();
}
