import type { Step } from './explore.ts';
import {
  type Context,
  hasReceipts,
  idOf,
  type Mutant,
  type NodeId,
  type Source,
  type State,
} from './state.ts';

export function* finalSteps({ state, scope, mutant, after }: Context): Iterable<Step<State>> {
  const { poll, ids, commits } = state;
  if (poll.isFinal) return;
  if (scope.canWriteOff) yield* writeOffSteps(state, after);
  if (!poll.isClosed) return;
  if (
    commits.some((commit) => commit?.isLocked) &&
    mutant !== 'final-unlocked' &&
    mutant !== 'commit-unlocked'
  )
    return;
  const isProven = ids.every(({ hasRow, retirement, isWrittenOff, readRevision }, id) => {
    if (!hasRow || retirement === 'retired' || isWrittenOff || mutant === 'never-read') return true;
    if (retirement === 'fenced' || readRevision === 0) return false;
    if (readRevision !== poll.revision && mutant !== 'proof-any-revision') return false;
    return state.sources.every(
      (source, index) => idOf(index, state, scope) !== id || isProof(source, poll.revision, mutant),
    );
  });
  if (!isProven) return;
  yield [
    'the poll becomes final',
    after((next) => {
      next.poll.isFinal = true;
      for (const source of next.sources) source.countedAtFinal = source.counted;
    }),
  ];
}

function* writeOffSteps({ ids }: State, after: Context['after']): Iterable<Step<State>> {
  for (const [id, { hasRow, isWrittenOff }] of ids.entries()) {
    if (!hasRow || isWrittenOff) continue;
    yield [
      `node id ${id} is written off`,
      after((next) => {
        (next.ids[id] as NodeId).isWrittenOff = true;
      }),
    ];
  }
}

/** Whether all that a source was answered 202 for is counted: it has sealed or is fenced, and all receipts are there. */
function isProof(source: Source, revision: number, mutant: Mutant | undefined): boolean {
  const { reading, fencedSeq } = source;
  // It registered after the reading, which had closed the poll on its node.
  if (!reading || reading.ledger < 0) return true;
  const isSealed =
    reading.sealedRevision === revision || (mutant === 'seal-any-revision' && reading.sealedRevision > 0);
  const end = isSealed ? reading.sealedSeq : fencedSeq;
  if (end < 0) return mutant === 'no-fence-wait';
  return hasReceipts(source, end) || mutant === 'no-receipts';
}
