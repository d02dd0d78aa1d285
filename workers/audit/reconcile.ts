import type { SourceAudit } from '#db/audit.ts';
import { jobKey, type LedgerEntry, nodeOf, parseJobKey } from '#job';

/** Of the numbers that Postgres has not heard of, so many a source are looked for by name; the others are counted. */
const UNHEARD_NAMED_MAX = 100_000;

/** What one node's Redis said when it was asked. */
export interface NodeReading {
  /** Its address, as discovery names it. */
  readonly name: string;
  /** Why it could not be asked; `undefined` when it could. */
  readonly fault: string | undefined;
  /** The last one read, if it could not be asked now. */
  readonly ledger: ReadonlyMap<string, LedgerEntry>;
  /** Jobs in the queue that are not failed: waiting, active, delayed. */
  readonly queued: number;
  readonly failed: number;
  /** The ids of all jobs in the queue, read in one step after the ledger; absent when they were not listed. */
  readonly jobs?: { readonly queued: readonly string[]; readonly failed: readonly string[] } | undefined;
}

/**
 * What is known of the system. The order of reading is what makes the result right while voting goes on: ledgers first,
 * then queues, then Postgres. A job moves from the queue to Postgres and never back, so a number that the ledger had, and
 * that is in no queue and not in Postgres either, is nowhere.
 */
export interface AuditInputs {
  readonly nodes: readonly NodeReading[];
  readonly audits: readonly SourceAudit[];
  /** The sources that Postgres knew before the ledgers were read. */
  readonly knownBefore: ReadonlySet<string>;
}

/** The names of all fates, in the order in which people read them. */
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

/** What became of what was accepted: `accepted` is the sum of all the others. Counted in votes. */
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

/** One source. The numbers of jobs are exact; votes of missing jobs of more than one fate are shared out by them. */
export interface SourceAccount extends Outcomes {
  readonly source: string;
  readonly node: string;
  /** Whether its node's ledger could be read. If not, what is missing is pending: nobody can say that it is lost. */
  readonly reachable: boolean;
  /** Whether an operator has said that its node will not come back. */
  readonly retired: boolean;
  readonly jobs: {
    readonly accepted: number;
    readonly committed: number;
    readonly pending: number;
    readonly failed: number;
    readonly lost: number;
  };
  /** The numbers of the lost jobs, in their order; only the first where Postgres does not name all that is missing. */
  readonly lostJobs: readonly number[];
}

/** Where a source's jobs are. */
interface Place {
  readonly entry: LedgerEntry | undefined;
  readonly reachable: boolean;
  /** Up to this number, a job that is in neither place is lost. */
  readonly certainSeq: number;
  /** Whether all queues that could hold its jobs have been listed. */
  readonly listed: boolean;
}

/** Accounts for every accepted vote, source by source, in the order of their names. */
export function reconcile(inputs: AuditInputs): SourceAccount[] {
  const queues = sortJobs(inputs.nodes);
  return sourcesOf(inputs).map(({ source, audit }) => {
    const place = placeOf(source, audit, inputs);
    const top = Math.max(place.entry?.seq ?? 0, audit.jobs + audit.missingJobs);
    const { lostJobs, ...jobs } = settleJobs(audit, top, place, queues.get(source) ?? NO_JOBS);
    const accepted = Math.max(place.entry?.votes ?? 0, audit.acceptedVotes, audit.votes);
    return {
      source,
      node: audit.node ?? nodeOf(source),
      reachable: place.reachable,
      retired: audit.retired,
      accepted,
      counted: audit.counted,
      changed: audit.changed,
      superseded: audit.superseded,
      rejected: audit.rejected,
      ...shareVotes(accepted - audit.votes, jobs),
      jobs: { accepted: top, committed: audit.jobs, ...jobs },
      lostJobs,
    };
  });
}

/**
 * The nodes whose jobs must be listed, whether they have been or not: those that do not hold as many jobs as are
 * missing, and those with failed jobs, of which nobody knows whose they are. Without a list, all that is missing is
 * pending.
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
    else if (looksForgotten(source, inputs.nodes)) for (const { name } of answering) names.add(name);
  }
  for (const { name, queued, failed } of answering) {
    const jobs = missing.get(name) ?? 0;
    if (jobs > queued + failed || (jobs > 0 && failed > 0)) names.add(name);
  }
  return names;
}

/** Adds rows up. */
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

/** The keys of the first lost jobs, at most so many, and how many more are lost. */
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
    for (const source of ledger.keys()) if (!known.has(source)) known.set(source, unseen(source));
  }
  return [...known]
    .map(([source, audit]) => ({ source, audit }))
    .toSorted((a, b) => (a.source < b.source ? -1 : 1));
}

/** A source of which nothing has reached Postgres yet. */
function unseen(source: string): SourceAudit {
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

function placeOf(source: string, audit: SourceAudit, { nodes, knownBefore }: AuditInputs): Place {
  const holder = nodes.find(({ ledger }) => ledger.has(source));
  const entry = holder?.ledger.get(source);
  if (holder?.fault) return { entry, reachable: false, certainSeq: 0, listed: false };
  if (holder && entry) {
    return { entry, reachable: true, certainSeq: entry.seq, listed: holder.jobs !== undefined };
  }
  // A source that Postgres did not know before may just be new.
  const isForgotten = knownBefore.has(source) && looksForgotten(source, nodes);
  return {
    entry,
    reachable: isForgotten,
    certainSeq: isForgotten ? audit.jobs + audit.missingJobs : 0,
    listed: nodes.every(({ jobs }) => jobs !== undefined),
  };
}

/** Every node answers, one of them under the source's name for it, and none knows the source: a Redis lost its data. */
function looksForgotten(source: string, nodes: readonly NodeReading[]): boolean {
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
  const sort = (ids: readonly string[], fate: keyof Queued): void => {
    for (const id of ids) {
      const key = parseJobKey(id);
      if (!key) continue;
      const jobs = bySource.get(key.source) ?? { queued: new Set(), failed: new Set() };
      jobs[fate].add(key.seq);
      bySource.set(key.source, jobs);
    }
  };
  for (const { jobs } of nodes) {
    sort(jobs?.queued ?? [], 'queued');
    sort(jobs?.failed ?? [], 'failed');
  }
  return bySource;
}

type MissingJobs = Pick<SourceAccount['jobs'], 'pending' | 'failed' | 'lost'>;

/**
 * Sorts the missing numbers of a source. Postgres names only the first of them; of the others it is known how many they
 * are, and so that some are lost when there are more of them than jobs in the queue.
 */
function settleJobs(
  audit: SourceAudit,
  top: number,
  place: Place,
  jobs: Queued,
): MissingJobs & Pick<SourceAccount, 'lostJobs'> {
  const missing = top - audit.jobs;
  if (!place.listed || missing === 0) return { pending: missing, failed: 0, lost: 0, lostJobs: [] };
  const isCertain = (seq: number): boolean => seq <= place.certainSeq;
  const isHeld = (seq: number): boolean => jobs.queued.has(seq) || jobs.failed.has(seq);

  const named = namedMissing(audit, top);
  const lostJobs = named.filter((seq) => isCertain(seq) && !isHeld(seq));
  const held = [...jobs.queued.union(jobs.failed)].filter(isCertain).length;
  const lostByCount = Math.min(place.certainSeq, top) - audit.jobs - held;
  const lost = Math.max(lostJobs.length, lostByCount);

  const areAllNamed = named.length === missing;
  const failed = areAllNamed ? named.filter((seq) => jobs.failed.has(seq)).length : jobs.failed.size;
  const failedAtMost = Math.min(failed, missing - lost);
  return { pending: missing - lost - failedAtMost, failed: failedAtMost, lost, lostJobs };
}

/** The first missing numbers, those included that Postgres has not heard of. */
function namedMissing({ missing, jobs, missingJobs }: SourceAudit, top: number): number[] {
  if (missing.length < missingJobs) return [...missing];
  const first = jobs + missingJobs + 1;
  const count = Math.min(Math.max(0, top - first + 1), UNHEARD_NAMED_MAX);
  return [...missing, ...Array.from({ length: count }, (_, index) => first + index)];
}

function shareVotes(votes: number, { pending, failed, lost }: MissingJobs): MissingJobs {
  const jobs = pending + failed + lost;
  if (jobs === 0) return { pending: votes, failed: 0, lost: 0 };
  const lostVotes = Math.round((votes * lost) / jobs);
  const failedVotes = Math.min(Math.round((votes * failed) / jobs), votes - lostVotes);
  return { pending: votes - lostVotes - failedVotes, failed: failedVotes, lost: lostVotes };
}
