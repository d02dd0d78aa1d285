/** A step of a model: its name, and the state after it. */
export type Step<State> = readonly [name: string, after: State];

/** Result of `explore`: all states visited without a violation, or the shortest path to one. */
export type Exploration =
  | { readonly holds: true; readonly states: number; readonly goals: number }
  | {
      readonly holds: false;
      readonly states: number;
      readonly violation: string;
      readonly path: readonly string[];
    };

export interface Model<State> {
  readonly initial: State;
  /** All steps possible in a state; anything may happen between two steps. */
  readonly steps: (state: State) => Iterable<Step<State>>;
  /** Returns what is wrong with a state; `undefined` when nothing is. */
  readonly violation: (state: State) => string | undefined;
  /** States that must be reachable, or the model proves nothing. */
  readonly isGoal: (state: State) => boolean;
  /** A text that two states share only if they are equal. */
  readonly key: (state: State) => string;
}

/**
 * Visits every reachable state, breadth first, so that a violation comes with its shortest path.
 *
 * @throws RangeError when there are more than `statesMax` states
 */
export function explore<State>(model: Model<State>, statesMax: number): Exploration {
  const first = model.key(model.initial);
  /** Each state with the state before it and the step between them. */
  const origins = new Map<string, readonly [before: string, step: string] | undefined>([[first, undefined]]);
  let goals = 0;
  let frontier = [model.initial];
  while (frontier.length > 0) {
    const next: State[] = [];
    for (const state of frontier) {
      const before = model.key(state);
      for (const [step, after] of model.steps(state)) {
        const key = model.key(after);
        if (origins.has(key)) continue;
        origins.set(key, [before, step]);
        if (origins.size > statesMax) throw new RangeError(`the model has over ${statesMax} states`);
        if (model.isGoal(after)) goals += 1;
        const violation = model.violation(after);
        if (violation !== undefined) {
          return { holds: false, states: origins.size, violation, path: pathTo(key, origins) };
        }
        next.push(after);
      }
    }
    frontier = next;
  }
  return { holds: true, states: origins.size, goals };
}

function pathTo(key: string, origins: ReadonlyMap<string, readonly [string, string] | undefined>): string[] {
  const path: string[] = [];
  for (let at = origins.get(key); at; at = origins.get(at[0])) path.unshift(at[1]);
  return path;
}
