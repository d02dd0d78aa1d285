import { setTimeout as sleep } from 'node:timers/promises';
import { auditSources, auditTallies, knownSources } from '#db/audit.ts';
import type { Db } from '#db/client.ts';
import { isUndefinedTable } from '#db/errors.ts';
import type { Discover } from '#runtime/discovery.ts';
import { createLog } from '#runtime/log.ts';
import type { RedisAddress } from '#runtime/redis.ts';
import { NodeQueues, type NodeState } from './queues.ts';
import { reconcile, type SourceAccount } from './reconcile.ts';
import { type AuditReport, type Unreachable, unseenNodes } from './report.ts';

/** A node without a response by then is unreachable. */
const CONNECT_MS_MAX = 2_500;
const POLL_INTERVAL_MS = 25;
/** Longest search of a queue with more than 20,000 jobs; millions take seconds. */
const SEARCH_MS_MAX = 30_000;
/** Most missing numbers enumerated per source. */
const JOBS_NAMED_MAX = 100_000;

/**
 * Audits all nodes and Postgres, read in the order that `AuditInputs` requires, so that votes in transit are not losses. An
 * unreachable part is not an error; the report lists it.
 */
export async function collectAudit(db: Db, discover: Discover): Promise<AuditReport> {
  const asOf = Date.now();
  const unreachable: Unreachable[] = [];
  const addresses = await discover().catch(({ code, message }: NodeJS.ErrnoException) => {
    unreachable.push({ what: 'the nodes', reason: `discovery failed (${code ?? message})` });
    return [];
  });
  const queues = await connect(addresses);
  try {
    return { asOf, ...(await account(db, queues, unreachable)) };
  } finally {
    await queues.close();
  }
}

/** Connects to the nodes, and waits for those that respond within `CONNECT_MS_MAX`. */
async function connect(addresses: readonly RedisAddress[]): Promise<NodeQueues> {
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
): Promise<Omit<AuditReport, 'asOf'>> {
  const knownBefore = await orFault(knownSources(db));
  const nodes = await Promise.all(queues.all.map((queue) => queue.read(true, SEARCH_MS_MAX)));
  const postgres =
    knownBefore instanceof Fault
      ? knownBefore
      : await orFault(Promise.all([auditSources(db, JOBS_NAMED_MAX), auditTallies(db)]));
  const down = nodes.flatMap(faultOfNode);
  if (knownBefore instanceof Fault || postgres instanceof Fault) {
    const reason = (postgres as Fault).message;
    return {
      rows: [],
      mismatches: undefined,
      unreachable: [...found, { what: 'Postgres', reason }, ...down],
    };
  }
  const [audits, mismatches] = postgres;
  const rows: SourceAccount[] = reconcile({ nodes, audits, knownBefore });
  return { rows, mismatches, unreachable: [...found, ...down, ...unseenNodes(rows, knownBefore, down)] };
}

function faultOfNode({ name, fault, jobs }: NodeState): Unreachable[] {
  if (fault !== undefined) return [{ what: name, reason: fault }];
  return jobs === undefined ? [{ what: name, reason: 'its jobs could not be listed' }] : [];
}

/** Why Postgres is unavailable, for people. */
class Fault extends Error {}

async function orFault<T>(asking: Promise<T>): Promise<T | Fault> {
  try {
    return await asking;
  } catch (error) {
    if (isUndefinedTable(error)) return new Fault('it has no tables; a worker creates them when it starts');
    const { code, message } = error as NodeJS.ErrnoException;
    // Node's error for a name with several addresses has no message.
    return new Fault(message || code || String(error));
  }
}
