import { setTimeout as sleep } from 'node:timers/promises';
import { auditSources, auditTallies, knownSources } from '#db/audit.ts';
import type { Db } from '#db/client.ts';
import type { Discover } from '#runtime/discovery.ts';
import { createLog } from '#runtime/log.ts';
import type { RedisAddress } from '#runtime/redis.ts';
import { NodeQueues, type NodeState } from './queues.ts';
import { reconcile, type SourceAccount } from './reconcile.ts';
import { type AuditReport, type Unreachable, unseenNodes } from './report.ts';

/** A node that has not answered by then is down. */
const CONNECT_MS_MAX = 2_500;
const LOOK_INTERVAL_MS = 25;
/** How long a queue of more than 20,000 jobs may be searched; millions take seconds. */
const SEARCH_MS_MAX = 30_000;
/** So many missing numbers of a source are looked for by name. */
const JOBS_NAMED_MAX = 100_000;

/** SQLSTATE of a table that is not there. */
const UNDEFINED_TABLE = '42P01';

/**
 * Looks at all nodes and at Postgres, in the order that `AuditInputs` asks for, so that votes in motion are no losses.
 * It never throws because something cannot be reached: that is in the report, as a blind spot.
 */
export async function collectAudit(db: Db, discover: Discover): Promise<AuditReport> {
  const asOf = Date.now();
  const unreachable: Unreachable[] = [];
  const addresses = await discover().catch(({ code, message }: NodeJS.ErrnoException) => {
    unreachable.push({ what: 'the nodes', reason: `they cannot be found (${code ?? message})` });
    return [];
  });
  const queues = await connect(addresses);
  try {
    return { asOf, ...(await account(db, queues, unreachable)) };
  } finally {
    await queues.close();
  }
}

/** Waits until all nodes answer, as long as that can be expected of them. */
async function connect(addresses: readonly RedisAddress[]): Promise<NodeQueues> {
  const silent = createLog('audit', () => {});
  const queues = new NodeQueues({ discover: async () => addresses, log: silent });
  await queues.follow();
  const deadline = Date.now() + CONNECT_MS_MAX;
  while (Date.now() < deadline && queues.all.some(({ fault }) => fault !== undefined)) {
    await sleep(LOOK_INTERVAL_MS);
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

/** Why Postgres could not be asked, for people. */
class Fault extends Error {}

async function orFault<T>(asking: Promise<T>): Promise<T | Fault> {
  try {
    return await asking;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === UNDEFINED_TABLE) return new Fault('it has no tables; the workers make them when they start');
    // Node tries several addresses of a name, and the error for all of them has no message.
    return new Fault(message || code || String(error));
  }
}
