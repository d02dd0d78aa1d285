/** A fault of the protocol: one step is left out or done too early. The model must find each. */
export type Mutant =
  | 'enrol-stale' // reads the polls before the node's row is inserted
  | 'no-enrolment' // a handler captures before its node is enrolled
  | 'never-read' // final without having read a node
  | 'read-without-push' // reads a node for the proof without telling it of the close
  | 'no-register' // a handler is ready without a ledger entry
  | 'polls-unread' // a handler is ready without having read the polls
  | 'fence-unasked' // a write does not check whether its source is fenced
  | 'seal-early' // a source seals while a write is in flight
  | 'count-fenced' // a commit counts a job above the fence
  | 'no-fence-wait' // final without a seal or a fence of every source
  | 'no-receipts' // final without all receipts
  | 'fence-lowered' // the fence is the number read from Redis, not the greatest one known
  | 'seal-any-revision' // the proof accepts a seal of an older revision
  | 'push-backwards' // a stale worker replaces a newer poll in a node
  | 'proof-any-revision' // the proof accepts a reading from before an extension
  | 'commit-unlocked' // a commit decides by its snapshot alone
  | 'final-unlocked' // finalization does not wait for commits that hold the poll's row
  | 'register-unchecked' // a ledger entry is written without reading the node's id again
  | 'retire-unfenced' // retirement does not fence the node's sources
  | 'retire-missing'; // retirement does not wait for the receipts

/** What takes part. Small numbers suffice: every fault above shows with at most two of everything. */
export interface Scope {
  readonly nodes: number;
  readonly sourcesPerNode: number;
  readonly jobsPerSource: number;
  /** How often an operator reopens the poll. */
  readonly extensions: number;
  /** Commits that run as three steps: snapshot, lock, write. 0: every commit is one step. */
  readonly splitCommits: number;
  readonly canFold: boolean;
  /** Whether a node can be retired and enrolled again under a new id. */
  readonly canRetire: boolean;
  /** Whether an operator can declare a node lost, so that the result does not wait for it. */
  readonly canWriteOff: boolean;
}

export interface PollView {
  revision: number;
  isClosed: boolean;
}

type HandlerPhase = 'new' | 'identified' | 'registered' | 'ready' | 'exited';

export interface Handler {
  phase: HandlerPhase;
  /** Which id of its node it read when it started: 0 the first, 1 the one after a retirement, −1 none. */
  generation: number;
  revision: number;
  isOpen: boolean;
  /** `prepared`: numbered, not yet written; `applied`, `applied-fenced`: written, not yet answered. */
  write: 'none' | 'prepared' | 'applied' | 'applied-fenced';
  /** The number of its last answered job. */
  seq: number;
}

/** What a node's Redis and PostgreSQL hold of a source. */
export interface Source {
  /** Redis: the ledger entry; −1 for none. */
  ledger: number;
  sealedRevision: number;
  sealedSeq: number;
  isFenced: boolean;
  queue: number[];
  /** A worker's memory between fencing in Redis and recording it; −1 for none. */
  fenceRead: number;
  /** PostgreSQL. */
  fencedSeq: number;
  foldedSeq: number;
  receipts: number[];
  /** How often each job was counted, by number − 1; now, and when the poll became final. */
  counted: number[];
  countedAtFinal: number[] | null;
  /** Jobs answered 202. */
  acknowledged: number[];
  /** Of the last reading of its node. */
  reading: Reading | null;
}

/** What a reading of its node for the proof says of a source. */
interface Reading {
  ledger: number;
  sealedRevision: number;
  sealedSeq: number;
}

export interface Commit {
  source: number;
  seq: number;
  isLocked: boolean;
  foldedSeq: number;
  receipts: number[];
  fencedSeq: number;
  isFinal: boolean;
}

export interface NodeId {
  /** `view`, `pushed`: steps of the worker that enrols it. */
  enrolment: 'none' | 'row' | 'view' | 'pushed' | 'enrolled';
  view: PollView;
  hasRow: boolean;
  retirement: 'none' | 'fenced' | 'retired';
  isWrittenOff: boolean;
  /** The revision for which it was read last; 0 for none. */
  readRevision: number;
}

export interface State {
  poll: PollView & { isFinal: boolean };
  extensionsLeft: number;
  /** By physical node; `generation` is that of the id it holds, −1 for none. */
  redis: Redis[];
  /** By node id, which is node + generation × nodes. */
  ids: NodeId[];
  handlers: Handler[];
  sources: Source[];
  /** The view that a worker is about to push to nodes. */
  push: PollView | null;
  commits: (Commit | null)[];
}

export interface Redis {
  generation: number;
  poll: PollView;
}

export const NO_POLL: PollView = { revision: 0, isClosed: false };

export function initialState({
  nodes,
  sourcesPerNode,
  jobsPerSource,
  extensions,
  splitCommits,
  canRetire,
}: Scope): State {
  const times = <T>(count: number, make: () => T): T[] => Array.from({ length: count }, make);
  const sources = nodes * sourcesPerNode;
  return {
    poll: { revision: 1, isClosed: false, isFinal: false },
    extensionsLeft: extensions,
    redis: times(nodes, () => ({ generation: -1, poll: NO_POLL })),
    ids: times(canRetire ? 2 * nodes : nodes, () => ({
      enrolment: 'none' as const,
      view: NO_POLL,
      hasRow: false,
      retirement: 'none' as const,
      isWrittenOff: false,
      readRevision: 0,
    })),
    handlers: times(sources, () => ({
      phase: 'new' as const,
      generation: -1,
      revision: 0,
      isOpen: false,
      write: 'none' as const,
      seq: 0,
    })),
    sources: times(sources, () => ({
      ledger: -1,
      sealedRevision: 0,
      sealedSeq: 0,
      isFenced: false,
      queue: [],
      fenceRead: -1,
      fencedSeq: -1,
      foldedSeq: 0,
      receipts: [],
      counted: times(jobsPerSource, () => 0),
      countedAtFinal: null,
      acknowledged: [],
      reading: null,
    })),
    push: null,
    commits: times(splitCommits, () => null),
  };
}

export function violationOf({ poll, ids, handlers, sources, redis }: State): string | undefined {
  for (const [index, { counted, countedAtFinal, fencedSeq, acknowledged }] of sources.entries()) {
    if (counted.some((times) => times > 1)) return 'a job counts twice';
    if (fencedSeq >= 0 && counted.some((times, at) => times > 0 && at + 1 > fencedSeq)) {
      return 'a job above the fence is counted';
    }
    if (!poll.isFinal) continue;
    if (counted.join() !== countedAtFinal?.join()) return 'the count changed after final';
    const node = Math.floor((index * redis.length) / sources.length);
    const isWrittenOff = ids[node + (handlers[index]?.generation ?? 0) * redis.length]?.isWrittenOff;
    if (!isWrittenOff && acknowledged.some((seq) => !counted[seq - 1])) {
      return 'a job that was answered 202 is not in the final count';
    }
  }
  return undefined;
}

/** Nodes, and the sources of a node, are interchangeable: states that differ by their order only are one state. */
export function keyOf({ redis, ids, handlers, sources, commits, ...rest }: State, scope: Scope): string {
  // A commit names its source by its index.
  const sort = (texts: string[]): string[] => (commits.length > 0 ? texts : texts.sort());
  const nodes = redis.map((node, n) => {
    const first = n * scope.sourcesPerNode;
    const ownSources = sources
      .slice(first, first + scope.sourcesPerNode)
      .map((source, i) => JSON.stringify([handlers[first + i], source]));
    return JSON.stringify([node, ids[n], ids[n + redis.length]]) + sort(ownSources).join();
  });
  return JSON.stringify([rest, commits]) + sort(nodes).join();
}

export interface Context {
  readonly state: State;
  readonly scope: Scope;
  readonly mutant: Mutant | undefined;
  readonly after: (change: (next: State) => void) => State;
}

/** Copies what steps change in place; views, readings and commits are replaced as a whole. Faster than `structuredClone`. */
export function copyOf(state: State): State {
  return {
    ...state,
    poll: { ...state.poll },
    redis: state.redis.map((redis) => ({ ...redis })),
    ids: state.ids.map((id) => ({ ...id })),
    handlers: state.handlers.map((handler) => ({ ...handler })),
    sources: state.sources.map((source) => ({
      ...source,
      queue: [...source.queue],
      counted: [...source.counted],
      acknowledged: [...source.acknowledged],
    })),
    commits: [...state.commits],
  };
}

/** A node's poll only moves to a higher revision, or from open to closed. */
export function raise(poll: PollView, to: PollView, mutant: Mutant | undefined): PollView {
  const isNewer = to.revision > poll.revision || (to.revision === poll.revision && to.isClosed);
  return isNewer || mutant === 'push-backwards' ? { revision: to.revision, isClosed: to.isClosed } : poll;
}

/** The id that a node's Redis holds; −1 for none. */
export function idIn({ generation }: Redis, node: number, { nodes }: Scope): number {
  return generation < 0 ? -1 : node + generation * nodes;
}

/** The id of the node that a source read when it started; −1 for none. */
export function idOf(source: number, { handlers }: State, { nodes, sourcesPerNode }: Scope): number {
  const { generation } = handlers[source] as Handler;
  return generation < 0 ? -1 : Math.floor(source / sourcesPerNode) + generation * nodes;
}

export function hasReceipts({ foldedSeq, receipts }: Source, upTo: number): boolean {
  for (let seq = foldedSeq + 1; seq <= upTo; seq++) if (!receipts.includes(seq)) return false;
  return true;
}
