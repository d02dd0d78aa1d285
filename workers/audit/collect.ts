import { setTimeout as sleep } from 'node:timers/promises';
import { auditLateVotes, auditSources, knownSources, type TallyMismatch } from '#db/audit.ts';
import type { Db } from '#db/client.ts';
import { isUndefinedTable } from '#db/errors.ts';
import { readNodes } from '#db/nodes.ts';
import type { Discover } from '#runtime/discovery.ts';
import { createLog } from '#runtime/log.ts';
import type { RedisAddress } from '#runtime/redis.ts';
import { findForeign, readIds } from './ownership.ts';
import { NodeQueues, type NodeState } from './queues.ts';
import { reconcile } from './reconcile.ts';
import { type AuditReport, isWrittenOff, type Unreachable, unreadParts } from './report.ts';

/** A node without a response by then is unreachable. */
const CONNECT_MS_MAX = 2_500;
const POLL_INTERVAL_MS = 25;
/** Longest search of a queue with more than 20,000 jobs; millions take seconds. */
const SEARCH_MS_MAX = 30_000;
/** Most missing numbers enumerated per source. */
const JOBS_NAMED_MAX = 100_000;

export interface AuditParts {
  readonly db: Db;
  readonly discover: Discover;
  /** Recounts all votes, see `auditTallies`; `undefined` leaves the tallies alone. */
  readonly recount?: (() => Promise<TallyMismatch[]>) | undefined;
}

/**
 * Audits all nodes and Postgres, read in the order that `AuditInputs` requires, so that votes in transit are not losses. An
 * unreachable part is not an error; the report lists it.
 */
export async function collectAudit({ db, discover, recount }: AuditParts): Promise<AuditReport> {
  const asOf = Date.now();
  const unreachable: Unreachable[] = [];
  const addresses = await discover().catch(({ code, message }: NodeJS.ErrnoException) => {
    unreachable.push({ what: 'the nodes', reason: `discovery failed (${code ?? message})` });
    return [];
  });
  const queues = await connectNodes(addresses);
  try {
    const report = await account(db, queues, unreachable);
    if (!recount || report.rows === undefined) return { asOf, ...report, mismatches: undefined };
    const mismatches = await orFault(recount());
    if (!(mismatches instanceof Fault)) return { asOf, ...report, mismatches };
    const part = { what: 'the recount', reason: mismatches.message };
    return { asOf, ...report, mismatches: undefined, unreachable: [...report.unreachable, part] };
  } finally {
    await queues.close();
  }
}

/** Connects to the nodes, and waits for those that respond within `CONNECT_MS_MAX`. */
export async function connectNodes(addresses: readonly RedisAddress[]): Promise<NodeQueues> {
  const silent = createLog('audit', () => {});
  const queues = new NodeQueues({ discover: async () => addresses, log: silent });
  await queues.follow();
  const deadline = Date.now() + CONNECT_MS_MAX;
  while (Date.now() < deadline && queues.all.some(({ fault }) => fault !== undefined)) {
    await sleep(POLL_INTERVAL_MS);
  }
  return queues;
}

async function account(
  db: Db,
  queues: NodeQueues,
  found: readonly Unreachable[],
): Promise<Omit<AuditReport, 'asOf' | 'mismatches'>> {
  const before = await orFault(Promise.all([knownSources(db), readNodes(db)]));
  const nodes = await Promise.all(queues.all.map((queue) => queue.read(true, SEARCH_MS_MAX)));
  const audits =
    before instanceof Fault
      ? before
      : await orFault(Promise.all([auditSources(db, JOBS_NAMED_MAX), auditLateVotes(db)]));
  const down = nodes.flatMap(faultOfNode);
  if (before instanceof Fault || audits instanceof Fault) {
    const reason = (audits as Fault).message;
    const unreachable = [...found, { what: 'Postgres', reason }, ...down];
    return { rows: undefined, foreign: [], writtenOff: [], late: new Map(), unreachable };
  }
  const [knownBefore, known] = before;
  const [sources, late] = audits;
  const rows = reconcile({ nodes, audits: sources, knownBefore });
  const ids = readIds(nodes);
  return {
    rows,
    foreign: findForeign({ nodes, audits: sources }),
    writtenOff: known
      .filter((node) => isWrittenOff(node) && !ids.has(node.id))
      .map(({ id, name, writtenOffReason }) => ({ id, name, reason: writtenOffReason ?? '' })),
    late,
    unreachable: [...found, ...nodes.flatMap(unlistedJobs), ...unreadParts(known, nodes, rows, down)],
  };
}

function faultOfNode({ name, fault }: NodeState): Unreachable[] {
  return fault === undefined ? [] : [{ what: name, reason: fault }];
}

function unlistedJobs({ name, fault, jobs }: NodeState): Unreachable[] {
  return fault !== undefined || jobs !== undefined
    ? []
    : [{ what: name, reason: 'its jobs could not be listed' }];
}

/** Why Postgres is unavailable, for people. */
class Fault extends Error {}

async function orFault<T>(asking: Promise<T>): Promise<T | Fault> {
  try {
    return await asking;
  } catch (error) {
    return new Fault(postgresFault(error));
  }
}

/** Returns for people why a query failed. */
export function postgresFault(error: unknown): string {
  if (isUndefinedTable(error)) return 'it has no tables; a worker creates them when it starts';
  const { code, message } = error as NodeJS.ErrnoException;
  // Node's error for a name with several addresses has no message.
  return message || code || String(error);
}
