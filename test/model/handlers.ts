import type { Step } from './explore.ts';
import type { Context, Handler, Redis, Source, State } from './state.ts';

/** Read the node's id, write the ledger entry while that id is still there, read the polls, be ready. */
export function* startSteps({ state, scope, mutant, after }: Context, source: number): Iterable<Step<State>> {
  const node = Math.floor(source / scope.sourcesPerNode);
  const { phase, generation } = state.handlers[source] as Handler;
  const redis = state.redis[node] as Redis;
  const step = (name: string, change: (handler: Handler, entry: Source) => void): Step<State> => [
    `source ${source} ${name}`,
    after((next) => change(next.handlers[source] as Handler, next.sources[source] as Source)),
  ];
  if (phase === 'new' && (redis.generation >= 0 || mutant === 'no-enrolment')) {
    yield step('reads the id of its node', (handler) => {
      handler.phase = 'identified';
      handler.generation = redis.generation;
    });
  }
  if (phase === 'identified') {
    yield step('registers', (handler, entry) => {
      const isSame =
        redis.generation === generation || mutant === 'register-unchecked' || mutant === 'no-enrolment';
      if (isSame && mutant !== 'no-register') entry.ledger = 0;
      handler.phase = isSame ? 'registered' : 'exited';
    });
  }
  if (phase === 'registered') {
    yield step('reads the poll and is ready', (handler) => {
      const poll = mutant === 'polls-unread' || redis.poll.revision === 0 ? state.poll : redis.poll;
      handler.phase = 'ready';
      handler.revision = poll.revision;
      handler.isOpen = mutant === 'polls-unread' || mutant === 'no-enrolment' || !poll.isClosed;
    });
  }
  if (phase !== 'new' && phase !== 'exited') {
    yield step('dies', exit);
  }
}

export function* captureSteps(
  { state, scope, mutant, after }: Context,
  source: number,
): Iterable<Step<State>> {
  const handler = state.handlers[source] as Handler;
  if (handler.phase !== 'ready') return;
  const { revision, isOpen, write, seq } = handler;
  const { sealedRevision } = state.sources[source] as Source;
  const known = (state.redis[Math.floor(source / scope.sourcesPerNode)] as Redis).poll;
  const step = (name: string, change: (handler: Handler, entry: Source) => void): Step<State> => [
    `source ${source} ${name}`,
    after((next) => change(next.handlers[source] as Handler, next.sources[source] as Source)),
  ];
  if (isOpen)
    yield step('closes by its clock', (next) => {
      next.isOpen = false;
    });
  if (known.revision > revision || (known.revision === revision && known.isClosed && isOpen)) {
    yield step('sees the poll change', (next) => {
      next.revision = known.revision;
      next.isOpen = !known.isClosed;
    });
  }
  if (isOpen && write === 'none' && seq < scope.jobsPerSource) {
    yield step('numbers a job', (next) => {
      next.write = 'prepared';
    });
  }
  if (write === 'prepared') {
    yield step('writes the job', (next, entry) => {
      entry.ledger = seq + 1;
      entry.queue.push(seq + 1);
      next.write = entry.isFenced && mutant !== 'fence-unasked' ? 'applied-fenced' : 'applied';
    });
  }
  if (write === 'applied' || write === 'applied-fenced') {
    yield step(write === 'applied' ? 'answers 202' : 'answers 503 and exits', (next, entry) => {
      next.seq = seq + 1;
      next.write = 'none';
      if (write === 'applied') entry.acknowledged.push(seq + 1);
      else exit(next);
    });
  }
  if (!isOpen && sealedRevision < revision && (write === 'none' || mutant === 'seal-early')) {
    yield step('seals', (_next, entry) => {
      entry.sealedRevision = revision;
      entry.sealedSeq = seq;
    });
  }
}

/** What a handler had in its memory is gone; keeping it would split equal states. */
function exit(handler: Handler): void {
  Object.assign(handler, {
    phase: 'exited',
    revision: 0,
    isOpen: false,
    write: 'none',
    seq: 0,
  } satisfies Partial<Handler>);
}
