import type { NodeState } from '#audit/queues.ts';
import type { SourceAudit } from '#db/audit.ts';
import type { NodeState as EnrolledNode } from '#db/nodes.ts';
import type { PollState } from '#db/poll-states.ts';
import { jobKey, type LedgerEntry, nodeOf } from '#job';

/** A node, its source, and an older one. */
export const NODE = 'aaaaaaaaaaaaa';
export const SOURCE: string = `frontend01-${NODE}.t0-1`;
export const OLDER: string = `frontend01-${NODE}.t0-0`;
/** Another node and its source. */
export const OTHER_NODE = 'bbbbbbbbbbbbb';
export const ELSEWHERE: string = `frontend02-${OTHER_NODE}.t0-1`;

/** PostgreSQL's reading of a source with 10 votes per job: receipts of all numbers except the missing ones. */
export function audit(jobs: number, missing: readonly number[] = [], source = SOURCE): SourceAudit {
  const acceptedSeq = jobs + missing.length;
  return {
    source,
    node: nodeOf(source).id,
    acceptedSeq,
    acceptedVotes: acceptedSeq * 10,
    jobs,
    votes: jobs * 10,
    counted: jobs * 10,
    changed: 0,
    superseded: 0,
    rejected: 0,
    isRetired: false,
    isWrittenOff: false,
    fencedSeq: null,
    comparedSeq: 0,
    unexplainedVotes: 0,
    writtenOffVotes: 0,
    writtenOffJobs: [],
    missingJobs: missing.length,
    missing: missing.slice(0, 100),
  };
}

interface NodeParts {
  readonly oldestMs?: number | null;
  readonly name?: string;
  /** The id in the Redis, that of `source` by default. */
  readonly id?: string | undefined;
  readonly fenced?: readonly string[];
  readonly fault?: string;
  /** The number of the last job of each source. */
  readonly seqs?: Readonly<Record<string, number>>;
  readonly queued?: readonly number[];
  readonly failed?: readonly number[];
  /** Whether the jobs were listed; otherwise they are only counted. */
  readonly isListed?: boolean;
  readonly source?: string;
  readonly polls?: NodeState['polls'];
  readonly handlers?: NodeState['handlers'];
}

/** A reachable node with 10 votes per job. */
export function node(parts: NodeParts = {}): NodeState {
  const { name = 'r1', fault, seqs = {}, queued = [], failed = [], isListed = true, source = SOURCE } = parts;
  const { id, name: host } = nodeOf(source);
  const idsOf = (numbers: readonly number[]): string[] => numbers.map((seq) => jobKey(source, seq));
  const ledger = new Map<string, LedgerEntry>();
  for (const [name, seq] of Object.entries(seqs)) ledger.set(name, { seq, votes: seq * 10 });
  return {
    name,
    id: 'id' in parts ? parts.id : id,
    host,
    fenced: new Set(parts.fenced),
    fault,
    ledger,
    queued: queued.length,
    failed: failed.length,
    waiting: queued.length,
    active: 0,
    delayed: 0,
    oldestMs: parts.oldestMs ?? null,
    memory: { used: 2 ** 20, max: 2 ** 30 },
    appendOnlyFile: 'on',
    polls: parts.polls ?? new Map(),
    handlers: parts.handlers ?? new Map(),
    jobs: isListed && !fault ? { queued: idsOf(queued), failed: idsOf(failed) } : undefined,
  };
}

/** A node as in Postgres, read and with nothing uncounted. */
export function enrolled(changes: Partial<EnrolledNode> = {}): EnrolledNode {
  return {
    id: NODE,
    name: 'frontend01',
    enrolledAt: Date.UTC(2027, 1, 7, 11),
    readAt: Date.UTC(2027, 1, 7, 12),
    clockSkewMs: 0,
    state: 'enrolled',
    writtenOffReason: null,
    sources: 1,
    uncountedJobs: 0,
    uncountedVotes: 0,
    ...changes,
  };
}

/** An open poll, changed by an operator a minute before noon. */
export function pollState(changes: Partial<PollState> = {}): PollState {
  return {
    id: 'cats-vs-dogs',
    question: 'Cats or dogs?',
    revision: 3,
    opensAt: null,
    closesAt: null,
    closedAt: null,
    finalAt: null,
    forgottenAt: null,
    results: 'live',
    isHidden: false,
    isListed: true,
    change: { at: Date.UTC(2027, 1, 7, 11, 59), who: 'ada', what: 'open', why: 'the host talks' },
    ...changes,
  };
}

/** The numbers from `first` to `last`. */
export function range(first: number, last: number): number[] {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index);
}
