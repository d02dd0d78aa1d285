import type { SourceAudit, WrittenOffJob } from '#db/audit.ts';
import { jobKey, type LedgerEntry, nodeOf } from '#job';
import { isOwn, type Jobs, NO_JOBS, type NodeReading, ownJobs } from './ownership.ts';

/** Most unseen sequence numbers enumerated per source. */
const UNSEEN_NUMBERED_MAX = 100_000;

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
  'writtenOff',
  'lost',
] as const satisfies readonly (keyof Outcomes)[];

/** The outcomes as words for people. */
export const OUTCOME_WORDS: Readonly<Record<keyof Outcomes, string>> = {
  accepted: 'accepted',
  counted: 'counted',
  changed: 'changed',
  superseded: 'superseded',
  rejected: 'rejected',
  pending: 'pending',
  failed: 'failed',
  writtenOff: 'written off',
  lost: 'lost',
};

/** Outcomes in votes: `accepted` is the sum of all others. */
export interface Outcomes {
  readonly accepted: number;
  readonly counted: number;
  readonly changed: number;
  readonly superseded: number;
  readonly rejected: number;
  readonly pending: number;
  readonly failed: number;
  /** Declared lost by an operator: in a job, or missing from a node that cannot be read. */
  readonly writtenOff: number;
  readonly lost: number;
}

/** The account of one source. Job numbers are exact; votes of missing jobs are distributed over their outcomes by job. */
export interface SourceAccount extends Outcomes {
  readonly source: string;
  /** Its node's id, and the name of the node's host for people. */
  readonly node: string;
  readonly name: string;
  /** Whether its node could be read. If not, missing jobs count as pending, since they may be on the node. */
  readonly reachable: boolean;
  /** Whether its node is retired. */
  readonly retired: boolean;
  /**
   * Votes that the ledger counts and the receipts do not, although no job is missing. They are part of `lost`. A negative
   * number are votes that the receipts count and the ledger does not.
   */
  readonly unexplained: number;
  readonly jobs: {
    readonly accepted: number;
    readonly committed: number;
    readonly pending: number;
    readonly failed: number;
    readonly writtenOff: number;
    readonly lost: number;
    /** Jobs in the queue above the fence of the source. They were never acknowledged and are not part of `accepted`. */
    readonly discarded: number;
  };
  /** The numbers of lost jobs, ascending; only the first ones if Postgres does not list all missing numbers. */
  readonly lostJobs: readonly number[];
  /** The numbers of failed jobs, likewise. */
  readonly failedJobs: readonly number[];
  readonly writtenOffJobs: readonly WrittenOffJob[];
}

/** What the nodes' readings say of a source. */
interface Evidence {
  readonly entry: LedgerEntry | undefined;
  readonly reachable: boolean;
  /** Up to this number, a job that is neither in a queue nor in Postgres is lost. */
  readonly decidableSeq: number;
  /** Whether the job ids of the queue that could hold its jobs are listed. */
  readonly areJobsListed: boolean;
}

/** Returns the account of every source, sorted by name. Sources in the ledger of a node that is not theirs have none. */
export function reconcile(inputs: AuditInputs): SourceAccount[] {
  const queues = ownJobs(inputs);
  return sourcesOf(inputs).map(({ source, audit }) => {
    const evidence = evidenceOf(source, audit, inputs);
    const held = queues.get(source) ?? NO_JOBS;
    const { lostJobs, failedJobs, ...jobs } = classifyJobs(audit, evidence, held);
    const compared = audit.writtenOffJobs.filter(({ seq }) => seq <= audit.comparedSeq).length;
    const writtenOff = audit.writtenOffJobs.length;
    const missing = { ...jobs, writtenOff: writtenOff - compared };
    const { accepted, unexplained, ...votes } = classifyVotes(audit, evidence, missing);
    const account = {
      source,
      node: audit.node,
      name: nodeOf(source).name,
      reachable: evidence.reachable,
      retired: audit.isRetired,
      accepted,
      counted: audit.counted,
      changed: audit.changed,
      superseded: audit.superseded,
      rejected: audit.rejected,
      ...votes,
      unexplained,
      jobs: {
        accepted: topOf(audit, evidence.entry),
        committed: audit.jobs - writtenOff,
        ...jobs,
        writtenOff,
        discarded: held.discarded,
      },
      lostJobs,
      failedJobs,
      writtenOffJobs: audit.writtenOffJobs,
    };
    return audit.isWrittenOff && !evidence.reachable ? writeOff(account) : account;
  });
}

/** Whatever is missing was declared lost; it is neither a new loss nor expected any more. */
function writeOff(account: SourceAccount): SourceAccount {
  const { jobs } = account;
  return {
    ...account,
    pending: 0,
    failed: 0,
    lost: 0,
    writtenOff: account.writtenOff + account.pending + account.failed + account.lost,
    unexplained: Math.min(0, account.unexplained),
    jobs: {
      ...jobs,
      pending: 0,
      failed: 0,
      lost: 0,
      writtenOff: jobs.writtenOff + jobs.pending + jobs.failed + jobs.lost,
    },
    lostJobs: [],
    failedJobs: [],
  };
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
    const holder = holderOf(source, inputs.nodes);
    const missingJobs = topOf(audit, holder?.ledger.get(source)) - audit.jobs;
    if (missingJobs === 0) continue;
    if (holder) missing.set(holder.name, (missing.get(holder.name) ?? 0) + missingJobs);
    else for (const { name, id } of answering) if (id === audit.node) names.add(name);
  }
  for (const { name, queued, failed } of answering) {
    if (failed > 0 || (missing.get(name) ?? 0) > queued) names.add(name);
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
    writtenOff: sum('writtenOff'),
    lost: sum('lost'),
  };
}

/** Returns the keys of the first `namedMax` failed or lost jobs, and how many more there are. */
export function nameJobs(
  rows: readonly Pick<SourceAccount, 'source' | 'jobs' | 'failedJobs' | 'lostJobs'>[],
  outcome: 'failed' | 'lost',
  namedMax = Number.POSITIVE_INFINITY,
): { readonly keys: readonly string[]; readonly more: number } {
  const all = rows.flatMap((row) => row[`${outcome}Jobs`].map((seq) => jobKey(row.source, seq)));
  const keys = all.slice(0, namedMax);
  return { keys, more: rows.reduce((sum, { jobs }) => sum + jobs[outcome], 0) - keys.length };
}

/** Returns the keys of failed and of lost jobs, which stay uncounted unless somebody intervenes. */
export function jobsAtFault(rows: readonly SourceAccount[]): string[] {
  return [...nameJobs(rows, 'failed').keys, ...nameJobs(rows, 'lost').keys];
}

/** Returns the jobs that operators wrote off. */
export function writtenOffJobs(
  rows: readonly SourceAccount[],
): { readonly key: string; readonly reason: string }[] {
  return rows.flatMap(({ source, writtenOffJobs }) =>
    writtenOffJobs.map(({ seq, reason }) => ({ key: jobKey(source, seq), reason })),
  );
}

function sourcesOf({
  nodes,
  audits,
}: Pick<AuditInputs, 'nodes' | 'audits'>): { source: string; audit: SourceAudit }[] {
  const known = new Map(audits.map((audit) => [audit.source, audit]));
  for (const node of nodes) {
    for (const source of node.ledger.keys()) {
      if (!known.has(source) && isOwn(node, source)) known.set(source, emptyAudit(source));
    }
  }
  return [...known]
    .map(([source, audit]) => ({ source, audit }))
    .toSorted((a, b) => (a.source < b.source ? -1 : 1));
}

/** Returns the audit of a source that is not in Postgres yet. */
function emptyAudit(source: string): SourceAudit {
  return {
    source,
    node: nodeOf(source).id,
    acceptedSeq: 0,
    acceptedVotes: 0,
    jobs: 0,
    votes: 0,
    counted: 0,
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
    missingJobs: 0,
    missing: [],
  };
}

/** Returns the last job of a source. That of a fenced one is fixed in Postgres, whatever its ledger says. */
function topOf(audit: SourceAudit, entry: LedgerEntry | undefined): number {
  const highest = audit.jobs + audit.missingJobs;
  return audit.fencedSeq === null ? Math.max(entry?.seq ?? 0, highest) : highest;
}

/** Returns the node that has the source in its ledger and may have it. */
function holderOf(source: string, nodes: readonly NodeReading[]): NodeReading | undefined {
  return answeringFirst(nodes, (node) => node.ledger.has(source) && isOwn(node, source));
}

/** A node may have two addresses for a moment, of which the older one does not answer any more. */
function answeringFirst(
  nodes: readonly NodeReading[],
  isWanted: (node: NodeReading) => boolean,
): NodeReading | undefined {
  return nodes.find((node) => node.fault === undefined && isWanted(node)) ?? nodes.find(isWanted);
}

function evidenceOf(source: string, audit: SourceAudit, { nodes, knownBefore }: AuditInputs): Evidence {
  const holder = holderOf(source, nodes) ?? answeringFirst(nodes, ({ id }) => id === audit.node);
  const entry = holder?.ledger.get(source);
  if (!holder || holder.fault !== undefined) {
    return { entry, reachable: false, decidableSeq: 0, areJobsListed: false };
  }
  // The jobs were listed right after the ledger was read, so numbers above its entry are not decidable. Without an entry the
  // ledger lost its data, unless the source was not in Postgres before: then it may just be new.
  const erasedSeq = knownBefore.has(source) ? topOf(audit, undefined) : 0;
  const decidableSeq = entry ? entry.seq : erasedSeq;
  return { entry, reachable: true, decidableSeq, areJobsListed: holder.jobs !== undefined };
}

type MissingJobs = Pick<SourceAccount['jobs'], 'pending' | 'failed' | 'lost'>;

/** Missing jobs, and those written off since receipts and ledger were compared. It is unknown how many votes each has. */
type JobsOfUnknownSize = MissingJobs & Pick<SourceAccount['jobs'], 'writtenOff'>;

/**
 * Assigns an outcome to the missing numbers of a source. Postgres lists only the first ones; the others are counted, and if
 * they exceed the jobs in the queue, some of them are lost.
 */
function classifyJobs(
  audit: SourceAudit,
  { entry, decidableSeq, areJobsListed }: Evidence,
  jobs: Jobs,
): MissingJobs & Pick<SourceAccount, 'lostJobs' | 'failedJobs'> {
  const top = topOf(audit, entry);
  const missing = top - audit.jobs;
  if (!areJobsListed || missing === 0) {
    return { pending: missing, failed: 0, lost: 0, lostJobs: [], failedJobs: [] };
  }
  const isDecidable = (seq: number): boolean => seq <= decidableSeq;
  const isHeld = (seq: number): boolean => jobs.queued.has(seq) || jobs.failed.has(seq);

  const named = namedMissing(audit, top);
  const lostJobs = named.filter((seq) => isDecidable(seq) && !isHeld(seq));
  // A failed job that was written off stays in its queue.
  const settled = new Set(audit.writtenOffJobs.map(({ seq }) => seq));
  const held = [...jobs.queued.union(jobs.failed).difference(settled)].filter(isDecidable).length;
  const lostByCount = Math.min(decidableSeq, top) - audit.jobs - held;
  const lost = Math.max(lostJobs.length, lostByCount);

  const areAllNamed = named.length === missing;
  const failedJobs = named.filter((seq) => jobs.failed.has(seq));
  const failed = areAllNamed ? failedJobs.length : jobs.failed.difference(settled).size;
  const failedAtMost = Math.min(failed, missing - lost);
  return { pending: missing - lost - failedAtMost, failed: failedAtMost, lost, lostJobs, failedJobs };
}

/** Returns the first missing numbers, including those above the highest in Postgres. */
function namedMissing({ missing, jobs, missingJobs }: SourceAudit, top: number): number[] {
  if (missing.length < missingJobs) return [...missing];
  const first = jobs + missingJobs + 1;
  const count = Math.min(Math.max(0, top - first + 1), UNSEEN_NUMBERED_MAX);
  return [...missing, ...Array.from({ length: count }, (_, index) => first + index)];
}

/**
 * Assigns an outcome to the accepted votes without a receipt. Where all jobs have receipts, none can be pending: the receipts
 * have fewer votes than the handler captured, so those not written off are lost.
 */
function classifyVotes(audit: SourceAudit, { entry }: Evidence, jobs: JobsOfUnknownSize) {
  const ledger = audit.fencedSeq === null ? entry : undefined;
  const accepted = Math.max(ledger?.votes ?? 0, audit.acceptedVotes, audit.votes);
  const isComplete = jobs.pending + jobs.failed + jobs.lost + jobs.writtenOff === 0;
  const writtenOff = Math.min(accepted - audit.votes, audit.writtenOffVotes);
  const missing = accepted - audit.votes - writtenOff;
  const known = isComplete ? votesAt(audit.jobs, audit, ledger) : undefined;
  const now = known === undefined ? 0 : known - audit.votes - audit.writtenOffVotes;
  const unexplained = now === 0 ? audit.unexplainedVotes : now;
  const lost = isComplete ? missing : Math.min(missing, Math.max(0, unexplained));
  const distributed = distributeVotes(missing - lost, jobs);
  return {
    accepted,
    unexplained,
    ...distributed,
    lost: distributed.lost + lost,
    writtenOff: distributed.writtenOff + writtenOff,
  };
}

/** Returns the votes in the jobs up to `seq` by the ledger or its mirror; `undefined` if neither is at that job. */
function votesAt(seq: number, audit: SourceAudit, entry: LedgerEntry | undefined): number | undefined {
  const votes = [
    ...(entry?.seq === seq ? [entry.votes] : []),
    ...(audit.acceptedSeq === seq ? [audit.acceptedVotes] : []),
  ];
  return votes.length === 0 ? undefined : Math.max(...votes);
}

/** Distributes votes over outcomes in proportion to their jobs; without any job they are pending. */
function distributeVotes(votes: number, jobs: JobsOfUnknownSize): JobsOfUnknownSize {
  const shares = { pending: 0, failed: 0, lost: 0, writtenOff: 0 };
  let votesLeft = votes;
  let jobsLeft = jobs.pending + jobs.failed + jobs.lost + jobs.writtenOff;
  for (const outcome of ['lost', 'failed', 'writtenOff'] as const) {
    if (jobs[outcome] === 0) continue;
    shares[outcome] = Math.round((votesLeft * jobs[outcome]) / jobsLeft);
    votesLeft -= shares[outcome];
    jobsLeft -= jobs[outcome];
  }
  return { ...shares, pending: votesLeft };
}
