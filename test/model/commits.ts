import type { Step } from './explore.ts';
import type { Commit, Context, Mutant, Source, State } from './state.ts';

/** Counts a job unless it is a duplicate, above the fence, or too late; `null` when it is a duplicate. */
function decide(
  seq: number,
  {
    foldedSeq,
    receipts,
    fencedSeq,
    isFinal,
  }: Pick<Commit, 'foldedSeq' | 'receipts' | 'fencedSeq' | 'isFinal'>,
  mutant: Mutant | undefined,
): 'count' | 'discard' | null {
  if (seq <= foldedSeq || receipts.includes(seq)) return null;
  if (fencedSeq >= 0 && seq > fencedSeq && mutant !== 'count-fenced') return 'discard';
  return isFinal ? 'discard' : 'count';
}

function apply(entry: Source, seq: number, verdict: 'count' | 'discard'): void {
  entry.receipts = [...entry.receipts, seq].toSorted((a, b) => a - b);
  if (verdict === 'count') entry.counted[seq - 1] = (entry.counted[seq - 1] ?? 0) + 1;
}

export function* commitSteps({ state, mutant, after }: Context, source: number): Iterable<Step<State>> {
  const entry = state.sources[source] as Source;
  for (const seq of new Set(entry.queue)) {
    const verdict = decide(seq, { ...entry, isFinal: state.poll.isFinal }, mutant);
    yield [
      `job ${source}.${seq} is committed`,
      after((next) => {
        const changed = next.sources[source] as Source;
        changed.queue = changed.queue.filter((queued) => queued !== seq);
        if (verdict) apply(changed, seq, verdict);
      }),
    ];
  }
}

/** Snapshot; lock the source's and the poll's rows, which re-reads them; write, where a primary key decides between two. */
export function* splitCommitSteps({ state, mutant, after }: Context, source: number): Iterable<Step<State>> {
  const { queue, receipts, foldedSeq, fencedSeq } = state.sources[source] as Source;
  const { isFinal } = state.poll;
  for (const [slot, commit] of state.commits.entries()) {
    if (!commit) {
      for (const seq of new Set(queue)) {
        yield [
          `commit ${slot} of job ${source}.${seq} begins`,
          after((next) => {
            next.commits[slot] = {
              source,
              seq,
              isLocked: false,
              foldedSeq,
              receipts: [...receipts],
              fencedSeq,
              isFinal,
            };
          }),
        ];
      }
      continue;
    }
    if (commit.source !== source) continue;
    const { seq, isLocked } = commit;
    if (!isLocked) {
      yield [
        `commit ${slot} locks`,
        after((next) => {
          const reread = mutant === 'commit-unlocked' ? {} : { foldedSeq, fencedSeq, isFinal };
          next.commits[slot] = { ...commit, ...reread, isLocked: true };
        }),
      ];
      continue;
    }
    yield [
      `commit ${slot} of job ${source}.${seq} ends`,
      after((next) => {
        const entry = next.sources[source] as Source;
        const verdict = decide(seq, commit, mutant);
        next.commits[slot] = null;
        // Another commit of the same job was faster: this one is rolled back, and sees the receipt when it begins anew.
        if (verdict && receipts.includes(seq)) return;
        if (verdict) apply(entry, seq, verdict);
        entry.queue = entry.queue.filter((queued) => queued !== seq);
      }),
    ];
  }
}

export function* foldSteps({ state, mutant, after }: Context, source: number): Iterable<Step<State>> {
  const { foldedSeq, receipts } = state.sources[source] as Source;
  const isLocked = state.commits.some((commit) => commit?.isLocked && commit.source === source);
  if (!receipts.includes(foldedSeq + 1) || (isLocked && mutant !== 'commit-unlocked')) return;
  yield [
    `the receipt ${source}.${foldedSeq + 1} is folded`,
    after((next) => {
      const entry = next.sources[source] as Source;
      entry.foldedSeq += 1;
      entry.receipts = entry.receipts.filter((seq) => seq > entry.foldedSeq);
    }),
  ];
}
