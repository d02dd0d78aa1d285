import type { NodeState } from '#audit/queues.ts';
import type { SourceAudit } from '#db/audit.ts';
import { jobKey, type LedgerEntry } from '#job';

export const SOURCE = 'frontend01.t0-1';

/** PostgreSQL's reading of a source with 10 votes per job: receipts of all numbers except the missing ones. */
export function audit(jobs: number, missing: readonly number[] = [], source = SOURCE): SourceAudit {
  const acceptedSeq = jobs + missing.length;
  return {
    source,
    node: source.slice(0, source.lastIndexOf('.')),
    acceptedSeq,
    acceptedVotes: acceptedSeq * 10,
    jobs,
    votes: jobs * 10,
    counted: jobs * 10,
    changed: 0,
    superseded: 0,
    rejected: 0,
    missingJobs: missing.length,
    missing: missing.slice(0, 100),
    retired: false,
  };
}

interface NodeParts {
  readonly name?: string;
  readonly fault?: string;
  /** The number of the last job of each source. */
  readonly seqs?: Readonly<Record<string, number>>;
  readonly queued?: readonly number[];
  readonly failed?: readonly number[];
  /** Whether the jobs were listed; otherwise they are only counted. */
  readonly isListed?: boolean;
  readonly source?: string;
}

/** A reachable node with 10 votes per job. */
export function node(parts: NodeParts = {}): NodeState {
  const { name = 'r1', fault, seqs = {}, queued = [], failed = [], isListed = true, source = SOURCE } = parts;
  const idsOf = (numbers: readonly number[]): string[] => numbers.map((seq) => jobKey(source, seq));
  const ledger = new Map<string, LedgerEntry>();
  for (const [name, seq] of Object.entries(seqs)) ledger.set(name, { seq, votes: seq * 10 });
  return {
    name,
    nodes: ['frontend01'],
    fault,
    ledger,
    queued: queued.length,
    failed: failed.length,
    waiting: queued.length,
    active: 0,
    delayed: 0,
    memory: { used: 2 ** 20, max: 2 ** 30 },
    appendOnlyFile: 'on',
    jobs: isListed && !fault ? { queued: idsOf(queued), failed: idsOf(failed) } : undefined,
  };
}

/** The numbers from `first` to `last`. */
export function range(first: number, last: number): number[] {
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index);
}
