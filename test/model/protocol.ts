import { commitSteps, foldSteps, splitCommitSteps } from './commits.ts';
import type { Model, Step } from './explore.ts';
import { finalSteps } from './final.ts';
import { captureSteps, startSteps } from './handlers.ts';
import {
  type Context,
  copyOf,
  initialState,
  keyOf,
  type Mutant,
  type Scope,
  type State,
  violationOf,
} from './state.ts';
import { enrolmentSteps, fenceSteps, pollSteps, readingSteps, retirementSteps } from './workers.ts';

/*
 * A model of how one poll becomes final: enrolment, seal, fence, commit, fold, extension, retirement.
 *
 * Every step is atomic, as one Redis transaction, one PostgreSQL transaction or one turn of a handler is. Processes may stop
 * permanently between any two steps, and clocks appear only as "may happen at any time", so what holds here holds under any
 * clock, any freeze, any crash and any order.
 *
 * Invariants:
 *   1. once the poll is final, the set of counted jobs never changes
 *   2. once the poll is final, every job that was answered 202 is counted
 *   3. a job counts at most once
 *   4. no job above a recorded fence is counted
 */

/** Returns the model of a scope; a mutant leaves one step of the protocol out. */
export function protocol(scope: Scope, mutant?: Mutant): Model<State> {
  return {
    initial: initialState(scope),
    steps: (state) => stepsOf(state, scope, mutant),
    violation: violationOf,
    isGoal: ({ poll }) => poll.isFinal,
    key: (state) => keyOf(state, scope),
  };
}

function* stepsOf(state: State, scope: Scope, mutant?: Mutant): Iterable<Step<State>> {
  const after = (change: (next: State) => void): State => {
    const next = copyOf(state);
    change(next);
    return next;
  };
  const context: Context = { state, scope, mutant, after };
  yield* pollSteps(context);
  for (let id = 0; id < state.ids.length; id++) {
    yield* enrolmentSteps(context, id);
    yield* retirementSteps(context, id);
    yield* readingSteps(context, id);
  }
  for (let source = 0; source < state.sources.length; source++) {
    yield* startSteps(context, source);
    yield* captureSteps(context, source);
    yield* fenceSteps(context, source);
    yield* (scope.splitCommits > 0 ? splitCommitSteps : commitSteps)(context, source);
    if (scope.canFold) yield* foldSteps(context, source);
  }
  yield* finalSteps(context);
}
