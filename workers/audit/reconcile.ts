import type { SourceAudit } from '#db/audit.ts';
import { jobKey, type LedgerEntry, nodeOf, parseJobKey } from '#job';

/** Most unseen sequence numbers enumerated per source. */
const UNSEEN_NUMBERED_MAX = 100_000;

/** A reading of one node's Redis. */
export interface NodeReading {
  /** The node's address in discovery. */
  readonly name: string;
  /** Why it could not be read; `undefined` when it could. */
  readonly fault: string | undefined;
  /** The last one read, if the node is unreachable now. */
  readonly ledger: ReadonlyMap<string, LedgerEntry>;
  /** Jobs in the queue that are not failed: waiting, active, delayed. */
  readonly queued: number;
  readonly failed: number;
  /** The ids of all jobs in the queue, read atomically after the ledger; absent if not listed. */
  readonly jobs?: { readonly queued: readonly string[]; readonly failed: readonly string[] } | undefined;
}

/**
 * The inputs of a reconciliation. Their order of reading makes the result correct under load: ledgers first, then queues, then
 * Postgres. A job moves from queue to Postgres and never back, so a number that the ledger had, and that is neither in a queue
 * nor in Postgres, is lost.
 */
export interface AuditInputs {
  readonly nodes: readonly NodeReading[];
  readonly audits: readonly SourceAudit[];
  /** The sources in Postgres before the ledgers were read. */
  readonly knownBefore: ReadonlySet<string>;
}

/** The outcomes in display order. */
export const OUTCOMES = [
  'accepted',
  'counted',
  'changed',
  'superseded',
  'rejected',
  'pending',
  'failed',
  'lost',
] as const satisfies readonly (keyof Outcomes)[];

/** Outcomes in votes: `accepted` is the sum of all others. */
export interface Outcomes {
  readonly accepted: number;
  readonly counted: number;
  readonly changed: number;
  readonly superseded: number;
  readonly rejected: number;
  readonly pending: number;
  readonly failed: number;
  readonly lost: number;
}

/** The account of one source. Job numbers are exact; votes of missing jobs are distributed over their outcomes by job. */
export interface SourceAccount extends Outcomes {
  readonly source: string;
  readonly node: string;
  /** Whether its node's ledger could be read. If not, missing jobs count as pending, since they may be on the node. */
  readonly reachable: boolean;
  /** Whether an operator has retired its node. */
  readonly retired: boolean;
  readonly jobs: {
    readonly accepted: number;
    readonly committed: number;
    readonly pending: number;
    readonly failed: number;
    readonly lost: number;
  };
  /** The numbers of lost jobs, ascending; only the first ones if Postgres does not list all missing numbers. */
  readonly lostJobs: readonly number[];
}

/** What the nodes' readings say of a source. */
interface Evidence {
  readonly entry: LedgerEntry | undefined;
  readonly reachable: boolean;
  /** Up to this number, a job that is neither in a queue nor in Postgres is lost. */
  readonly decidableSeq: number;
  /** Whether the job ids of every queue that could hold its jobs are listed. */
  readonly areQueuesListed: boolean;
}

/** Returns the account of every source, sorted by name. */
export function reconcile(inputs: AuditInputs): SourceAccount[] {
  const queues = sortJobs(inputs.nodes);
  return sourcesOf(inputs).map(({ source, audit }) => {
    const evidence = evidenceOf(source, audit, inputs);
    const top = Math.max(evidence.entry?.seq ?? 0, audit.jobs + audit.missingJobs);
    const { lostJobs, ...jobs } = classifyJobs(audit, top, evidence, queues.get(source) ?? NO_JOBS);
    const accepted = Math.max(evidence.entry?.votes ?? 0, audit.acceptedVotes, audit.votes);
    return {
      source,
      node: audit.node ?? nodeOf(source),
      reachable: evidence.reachable,
      retired: audit.retired,
      accepted,
      counted: audit.counted,
      changed: audit.changed,
      superseded: audit.superseded,
      rejected: audit.rejected,
      ...distributeVotes(accepted - audit.votes, jobs),
      jobs: { accepted: top, committed: audit.jobs, ...jobs },
      lostJobs,
    };
  });
}

/**
 * Returns the nodes whose job ids are needed: those with fewer queued jobs than missing ones, and those with failed jobs,
 * whose sources are unknown. Without a list, missing jobs count as pending.
 */
export function nodesToList(inputs: Pick<AuditInputs, 'nodes' | 'audits'>): ReadonlySet<string> {
  const missing = new Map<string, number>();
  const answering = inputs.nodes.filter(({ fault }) => fault === undefined);
  const names = new Set<string>();
  for (const { source, audit } of sourcesOf(inputs)) {
    const holder = inputs.nodes.find(({ ledger }) => ledger.has(source));
    const top = Math.max(holder?.ledger.get(source)?.seq ?? 0, audit.jobs + audit.missingJobs);
    if (top === audit.jobs) continue;
    if (holder) missing.set(holder.name, (missing.get(holder.name) ?? 0) + top - audit.jobs);
    else if (isMissingFromItsNode(source, inputs.nodes)) for (const { name } of answering) names.add(name);
  }
  for (const { name, queued, failed } of answering) {
    const jobs = missing.get(name) ?? 0;
    if (jobs > queued + failed || (jobs > 0 && failed > 0)) names.add(name);
  }
  return names;
}

/** Returns the sum of outcomes. */
export function sumOutcomes(rows: readonly Outcomes[]): Outcomes {
  const sum = (key: keyof Outcomes): number => rows.reduce((total, row) => total + row[key], 0);
  return {
    accepted: sum('accepted'),
    counted: sum('counted'),
    changed: sum('changed'),
    superseded: sum('superseded'),
    rejected: sum('rejected'),
    pending: sum('pending'),
    failed: sum('failed'),
    lost: sum('lost'),
  };
}

/** Returns the keys of the first `namedMax` lost jobs, and how many more are lost. */
export function nameLostJobs(
  rows: readonly Pick<SourceAccount, 'source' | 'jobs' | 'lostJobs'>[],
  namedMax: number,
): { readonly keys: readonly string[]; readonly more: number } {
  const all = rows.flatMap(({ source, lostJobs }) => lostJobs.map((seq) => jobKey(source, seq)));
  const keys = all.slice(0, namedMax);
  return { keys, more: rows.reduce((sum, { jobs }) => sum + jobs.lost, 0) - keys.length };
}

function sourcesOf({
  nodes,
  audits,
}: Pick<AuditInputs, 'nodes' | 'audits'>): { source: string; audit: SourceAudit }[] {
  const known = new Map(audits.map((audit) => [audit.source, audit]));
  for (const { ledger } of nodes) {
    for (const source of ledger.keys()) if (!known.has(source)) known.set(source, emptyAudit(source));
  }
  return [...known]
    .map(([source, audit]) => ({ source, audit }))
    .toSorted((a, b) => (a.source < b.source ? -1 : 1));
}

/** Returns the audit of a source that is not in Postgres yet. */
function emptyAudit(source: string): SourceAudit {
  return {
    source,
    node: nodeOf(source),
    acceptedSeq: 0,
    acceptedVotes: 0,
    jobs: 0,
    votes: 0,
    counted: 0,
    changed: 0,
    superseded: 0,
    rejected: 0,
    missingJobs: 0,
    missing: [],
    retired: false,
  };
}

function evidenceOf(source: string, audit: SourceAudit, { nodes, knownBefore }: AuditInputs): Evidence {
  const holder = nodes.find(({ ledger }) => ledger.has(source));
  const entry = holder?.ledger.get(source);
  if (holder?.fault) return { entry, reachable: false, decidableSeq: 0, areQueuesListed: false };
  if (holder && entry) {
    return { entry, reachable: true, decidableSeq: entry.seq, areQueuesListed: holder.jobs !== undefined };
  }
  // A source that was not in Postgres before may just be new.
  const isErased = knownBefore.has(source) && isMissingFromItsNode(source, nodes);
  return {
    entry,
    reachable: isErased,
    decidableSeq: isErased ? audit.jobs + audit.missingJobs : 0,
    areQueuesListed: nodes.every(({ jobs }) => jobs !== undefined),
  };
}

/** Every node is reachable, one of them has the source's node name, and none has the source: a Redis lost its data. */
function isMissingFromItsNode(source: string, nodes: readonly NodeReading[]): boolean {
  const name = nodeOf(source);
  return (
    nodes.every(({ fault }) => fault === undefined) &&
    nodes.some(({ ledger }) => ledger.keys().some((other) => nodeOf(other) === name)) &&
    !nodes.some(({ ledger }) => ledger.has(source))
  );
}

interface Queued {
  readonly queued: Set<number>;
  readonly failed: Set<number>;
}

const NO_JOBS: Queued = { queued: new Set(), failed: new Set() };

function sortJobs(nodes: readonly NodeReading[]): Map<string, Queued> {
  const bySource = new Map<string, Queued>();
  const add = (ids: readonly string[], state: keyof Queued): void => {
    for (const id of ids) {
      const key = parseJobKey(id);
      if (!key) continue;
      const jobs = bySource.get(key.source) ?? { queued: new Set(), failed: new Set() };
      jobs[state].add(key.seq);
      bySource.set(key.source, jobs);
    }
  };
  for (const { jobs } of nodes) {
    add(jobs?.queued ?? [], 'queued');
    add(jobs?.failed ?? [], 'failed');
  }
  return bySource;
}

type MissingJobs = Pick<SourceAccount['jobs'], 'pending' | 'failed' | 'lost'>;

/**
 * Assigns an outcome to the missing numbers of a source. Postgres lists only the first ones; the others are counted, and if
 * they exceed the jobs in the queue, some of them are lost.
 */
function classifyJobs(
  audit: SourceAudit,
  top: number,
  evidence: Evidence,
  jobs: Queued,
): MissingJobs & Pick<SourceAccount, 'lostJobs'> {
  const missing = top - audit.jobs;
  if (!evidence.areQueuesListed || missing === 0)
    return { pending: missing, failed: 0, lost: 0, lostJobs: [] };
  const isDecidable = (seq: number): boolean => seq <= evidence.decidableSeq;
  const isHeld = (seq: number): boolean => jobs.queued.has(seq) || jobs.failed.has(seq);

  const named = namedMissing(audit, top);
  const lostJobs = named.filter((seq) => isDecidable(seq) && !isHeld(seq));
  const held = [...jobs.queued.union(jobs.failed)].filter(isDecidable).length;
  const lostByCount = Math.min(evidence.decidableSeq, top) - audit.jobs - held;
  const lost = Math.max(lostJobs.length, lostByCount);

  const areAllNamed = named.length === missing;
  const failed = areAllNamed ? named.filter((seq) => jobs.failed.has(seq)).length : jobs.failed.size;
  const failedAtMost = Math.min(failed, missing - lost);
  return { pending: missing - lost - failedAtMost, failed: failedAtMost, lost, lostJobs };
}

/** Returns the first missing numbers, including those above the highest in Postgres. */
function namedMissing({ missing, jobs, missingJobs }: SourceAudit, top: number): number[] {
  if (missing.length < missingJobs) return [...missing];
  const first = jobs + missingJobs + 1;
  const count = Math.min(Math.max(0, top - first + 1), UNSEEN_NUMBERED_MAX);
  return [...missing, ...Array.from({ length: count }, (_, index) => first + index)];
}

function distributeVotes(votes: number, { pending, failed, lost }: MissingJobs): MissingJobs {
  const jobs = pending + failed + lost;
  if (jobs === 0) return { pending: votes, failed: 0, lost: 0 };
  const lostVotes = Math.round((votes * lost) / jobs);
  const failedVotes = Math.min(Math.round((votes * failed) / jobs), votes - lostVotes);
  return { pending: votes - lostVotes - failedVotes, failed: failedVotes, lost: lostVotes };
}
