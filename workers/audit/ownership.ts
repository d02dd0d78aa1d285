import type { SourceAudit } from '#db/audit.ts';
import { type LedgerEntry, nodeOf, parseJobKey } from '#job';

/** A reading of one node's Redis. */
export interface NodeReading {
  /** The node's address in discovery. */
  readonly name: string;
  /** The node's id; `undefined` while it is not enrolled, or was never read. */
  readonly id: string | undefined;
  /** Why it could not be read; `undefined` when it could. The id, ledger and fences are then the last ones read. */
  readonly fault: string | undefined;
  readonly ledger: ReadonlyMap<string, LedgerEntry>;
  /** The sources that may not capture any more, also those of a node that was retired on this Redis. */
  readonly fenced: ReadonlySet<string>;
  /** Jobs in the queue that are not failed: waiting, active, delayed. */
  readonly queued: number;
  readonly failed: number;
  /** The ids of all jobs in the queue, read atomically after the ledger; absent if not listed. */
  readonly jobs?: { readonly queued: readonly string[]; readonly failed: readonly string[] } | undefined;
}

/** The numbers of a source's jobs in the queue of its node. */
export interface Jobs {
  readonly queued: ReadonlySet<number>;
  readonly failed: ReadonlySet<number>;
  /** How many are above the fence of the source and therefore in neither set. */
  readonly discarded: number;
}

export const NO_JOBS: Jobs = { queued: new Set(), failed: new Set(), discarded: 0 };

/** A source found on a node that is not its own. Workers do not count its jobs. */
export interface ForeignSource {
  readonly source: string;
  /** The address of the node on which it was found. */
  readonly address: string;
  /** Whether it is in that node's ledger, and how many of its jobs are in that node's queue. */
  readonly isInLedger: boolean;
  readonly jobs: number;
}

/** Returns whether a source may be on this node: it has the node's id, or was fenced here, under an older id perhaps. */
export function isOwn({ id, fenced }: Pick<NodeReading, 'id' | 'fenced'>, source: string): boolean {
  return nodeOf(source).id === id || fenced.has(source);
}

/** Returns the ids of the nodes that were read: those of the readings, and those that are being retired. */
export function readIds(nodes: readonly NodeReading[]): Set<string> {
  const ids = new Set<string>();
  for (const { id, fault, ledger, fenced } of nodes) {
    if (fault !== undefined) continue;
    if (id !== undefined) ids.add(id);
    for (const source of ledger.keys()) if (fenced.has(source)) ids.add(nodeOf(source).id);
  }
  return ids;
}

interface Readings {
  readonly nodes: readonly NodeReading[];
  readonly audits: readonly SourceAudit[];
}

/** Returns the listed jobs of each source, leaving out those on a node that is not the source's. */
export function ownJobs({ nodes, audits }: Readings): Map<string, Jobs> {
  const fences = fencesOf(audits);
  const bySource = new Map<string, { queued: Set<number>; failed: Set<number>; discarded: number }>();
  for (const node of nodes) {
    for (const { source, seq, state } of listedJobs(node)) {
      if (!isOwn(node, source)) continue;
      const jobs = bySource.get(source) ?? { queued: new Set(), failed: new Set(), discarded: 0 };
      if (seq > (fences.get(source) ?? Number.POSITIVE_INFINITY)) jobs.discarded += 1;
      else jobs[state].add(seq);
      bySource.set(source, jobs);
    }
  }
  return bySource;
}

/**
 * Returns the sources found on nodes that are not theirs, sorted. Only somebody who controls a handler, or edits its Redis, can
 * put them there. Jobs above the fence of their source are left out: workers discard them on any node.
 */
export function findForeign({ nodes, audits }: Readings): ForeignSource[] {
  const fences = fencesOf(audits);
  return nodes
    .filter(({ fault }) => fault === undefined)
    .flatMap((node) => {
      const jobs = new Map<string, number>();
      for (const source of node.ledger.keys()) if (!isOwn(node, source)) jobs.set(source, 0);
      for (const { source, seq } of listedJobs(node)) {
        if (isOwn(node, source) || seq > (fences.get(source) ?? Number.POSITIVE_INFINITY)) continue;
        jobs.set(source, (jobs.get(source) ?? 0) + 1);
      }
      return [...jobs].map(([source, count]) => ({
        source,
        address: node.name,
        isInLedger: node.ledger.has(source),
        jobs: count,
      }));
    })
    .toSorted((a, b) => (`${a.address} ${a.source}` < `${b.address} ${b.source}` ? -1 : 1));
}

function fencesOf(audits: readonly SourceAudit[]): Map<string, number> {
  return new Map(
    audits.flatMap(({ source, fencedSeq }) => (fencedSeq === null ? [] : [[source, fencedSeq] as const])),
  );
}

function* listedJobs({ jobs }: NodeReading) {
  for (const state of ['queued', 'failed'] as const) {
    for (const id of jobs?.[state] ?? []) {
      const key = parseJobKey(id);
      if (key) yield { ...key, state };
    }
  }
}
