import type { Step } from './explore.ts';
import {
  type Context,
  hasReceipts,
  idIn,
  idOf,
  NO_POLL,
  type NodeId,
  type Redis,
  raise,
  type Source,
  type State,
} from './state.ts';

export function* pollSteps({ state, mutant, after }: Context): Iterable<Step<State>> {
  const { poll, extensionsLeft, push } = state;
  if (!poll.isClosed)
    yield [
      'close',
      after((next) => {
        next.poll.isClosed = true;
      }),
    ];
  if (poll.isClosed && !poll.isFinal && extensionsLeft > 0) {
    yield [
      'extend',
      after((next) => {
        next.poll = { revision: poll.revision + 1, isClosed: false, isFinal: false };
        next.extensionsLeft -= 1;
      }),
    ];
  }
  const { revision, isClosed } = poll;
  if (push?.revision !== revision || push.isClosed !== isClosed) {
    yield [
      'a worker reads the poll',
      after((next) => {
        next.push = { revision, isClosed };
      }),
    ];
  }
  if (!push) return;
  for (const [node, redis] of state.redis.entries()) {
    if (redis.poll.revision === 0) continue;
    const raised = raise(redis.poll, push, mutant);
    if (raised === redis.poll) continue;
    yield [
      `the worker pushes the poll to node ${node}`,
      after((next) => {
        (next.redis[node] as Redis).poll = raised;
      }),
    ];
  }
}

/** Insert the row, then read the polls, then write them to the node, then mark the node as enrolled. */
export function* enrolmentSteps({ state, scope, mutant, after }: Context, id: number): Iterable<Step<State>> {
  const node = id % scope.nodes;
  const { enrolment, view } = state.ids[id] as NodeId;
  const { revision, isClosed } = state.poll;
  const isReturn = id >= scope.nodes;
  const mayBegin =
    state.redis[node]?.generation === -1 && (!isReturn || state.ids[node]?.retirement !== 'none');
  const step = (name: string, change: (entry: NodeId, next: State) => void): Step<State> => [
    `${name} of node id ${id}`,
    after((next) => change(next.ids[id] as NodeId, next)),
  ];
  const insertRow = (entry: NodeId): void => {
    entry.hasRow = true;
  };
  const readPoll = (entry: NodeId): void => {
    entry.view = { revision, isClosed };
  };
  const [first, second] = mutant === 'enrol-stale' ? [readPoll, insertRow] : [insertRow, readPoll];
  if (enrolment === 'none' && mayBegin) {
    yield step('enrolment begins', (entry) => {
      first(entry);
      entry.enrolment = 'row';
    });
  }
  if (enrolment === 'row') {
    yield step('enrolment continues', (entry) => {
      second(entry);
      entry.enrolment = 'view';
    });
  }
  if (enrolment === 'view') {
    yield step('polls written', (entry, next) => {
      const redis = next.redis[node] as Redis;
      redis.poll = raise(redis.poll, view, mutant);
      // Nobody reads the view any more; keeping it would split equal states.
      entry.view = NO_POLL;
      entry.enrolment = 'pushed';
    });
  }
  if (enrolment === 'pushed') {
    yield step('enrolled', (entry, next) => {
      (next.redis[node] as Redis).generation = isReturn ? 1 : 0;
      entry.enrolment = 'enrolled';
    });
  }
}

/** Fence all sources and delete the node's id in one Redis transaction; then, with all receipts there, record it. */
export function* retirementSteps(
  { state, scope, mutant, after }: Context,
  id: number,
): Iterable<Step<State>> {
  if (!scope.canRetire || id >= scope.nodes) return;
  const { enrolment, retirement } = state.ids[id] as NodeId;
  const mine = state.sources.flatMap(({ ledger }, source) =>
    ledger >= 0 && idOf(source, state, scope) === id ? [source] : [],
  );
  if (enrolment === 'enrolled' && retirement === 'none') {
    yield [
      `retirement of node id ${id} begins`,
      after((next) => {
        (next.ids[id] as NodeId).retirement = 'fenced';
        (next.redis[id] as Redis).generation = -1;
        for (const source of mine) {
          const entry = next.sources[source] as Source;
          if (mutant !== 'retire-unfenced') entry.isFenced = true;
          entry.fenceRead = entry.ledger;
        }
      }),
    ];
  }
  if (retirement === 'fenced') {
    const isRecorded = mine.every((source) => {
      const { fencedSeq } = state.sources[source] as Source;
      return (
        fencedSeq >= 0 &&
        (mutant === 'retire-missing' || hasReceipts(state.sources[source] as Source, fencedSeq))
      );
    });
    if (isRecorded) {
      yield [
        `node id ${id} is retired`,
        after((next) => {
          (next.ids[id] as NodeId).retirement = 'retired';
        }),
      ];
    }
  }
}

/** The poll as the worker knows it is written in the transaction in which ledger and seals are read. */
export function* readingSteps({ state, scope, mutant, after }: Context, id: number): Iterable<Step<State>> {
  const { poll } = state;
  const node = id % scope.nodes;
  const { hasRow, retirement } = state.ids[id] as NodeId;
  if (!poll.isClosed || poll.isFinal || !hasRow || retirement !== 'none' || mutant === 'never-read') return;
  // An id that is not in its Redis yet has no sources; the same transaction reads that.
  const isThere = idIn(state.redis[node] as Redis, node, scope) === id;
  yield [
    `the ledger of node id ${id} is read`,
    after((next) => {
      const redis = next.redis[node] as Redis;
      if (mutant !== 'read-without-push') redis.poll = raise(redis.poll, poll, mutant);
      (next.ids[id] as NodeId).readRevision = poll.revision;
      for (const [source, entry] of next.sources.entries()) {
        if (idOf(source, state, scope) !== id || !isThere) continue;
        const { ledger, sealedRevision, sealedSeq } = entry;
        entry.reading = { ledger, sealedRevision, sealedSeq };
      }
    }),
  ];
}

/** A source that has not sealed is fenced in Redis, then in PostgreSQL; the worker may die between the two. */
export function* fenceSteps({ state, mutant, after }: Context, source: number): Iterable<Step<State>> {
  const { poll } = state;
  const { ledger, sealedRevision, fenceRead, fencedSeq, foldedSeq, receipts } = state.sources[
    source
  ] as Source;
  const step = (name: string, change: (entry: Source) => void): Step<State> => [
    `source ${source} ${name}`,
    after((next) => change(next.sources[source] as Source)),
  ];
  if (
    poll.isClosed &&
    !poll.isFinal &&
    ledger >= 0 &&
    sealedRevision < poll.revision &&
    fenceRead < 0 &&
    fencedSeq < 0
  ) {
    yield step('is fenced in Redis', (entry) => {
      entry.isFenced = true;
      entry.fenceRead = ledger;
    });
  }
  if (fenceRead < 0 || fencedSeq >= 0) return;
  yield step('is forgotten by a worker that dies', (entry) => {
    entry.fenceRead = -1;
  });
  const isLocked = state.commits.some((commit) => commit?.isLocked && commit.source === source);
  if (isLocked && mutant !== 'commit-unlocked') return;
  yield step('is fenced in PostgreSQL', (entry) => {
    entry.fencedSeq = mutant === 'fence-lowered' ? fenceRead : Math.max(fenceRead, foldedSeq, ...receipts);
    entry.fenceRead = -1;
  });
}
