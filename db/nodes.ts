import { type RawBuilder, sql } from 'kysely';
import type { Db } from './client.ts';

/** Stores a node before it captures votes, named by its id until a source with its host's name has registered. Idempotent. */
export async function insertNode(db: Db, id: string): Promise<void> {
  await sql`insert into nodes (id, name) values (${id}, ${id}) on conflict do nothing`.execute(db);
}

/** State of a node that was ever enrolled. Times are in milliseconds since 1970. */
export interface NodeState {
  readonly id: string;
  readonly name: string;
  readonly enrolledAt: number;
  /** When its ledger was last read; null if it never was. */
  readonly readAt: number | null;
  readonly clockSkewMs: number | null;
  readonly state: 'enrolled' | 'retiring' | 'retired' | 'written off';
  readonly writtenOffReason: string | null;
  /** Its sources, and how many jobs and votes of theirs have no receipt. */
  readonly sources: number;
  readonly uncountedJobs: number;
  readonly uncountedVotes: number;
}

/** Returns every node ever enrolled, sorted by name. The cost grows with the number of sources. */
export async function readNodes(db: Db): Promise<NodeState[]> {
  const { rows } = await sql<NodeState>`
    with source as (
      select node_id,
        greatest(accepted_seq - folded_seq - recent.jobs, 0) as jobs,
        greatest(accepted_votes - folded_votes - written_off_votes - recent.votes, 0) as votes
      from sources
      cross join lateral (
        select count(*) as jobs, coalesce(sum(votes), 0) as votes
        from receipts
        where receipts.source = sources.source and seq <= accepted_seq
      ) as recent
    )
    select id, name,
      floor(extract(epoch from enrolled_at) * 1000)::bigint as "enrolledAt",
      floor(extract(epoch from read_at) * 1000)::bigint as "readAt",
      clock_skew_ms as "clockSkewMs",
      case
        when retired_at is not null then 'retired'
        when written_off_at is not null then 'written off'
        when retiring_at is not null then 'retiring'
        else 'enrolled'
      end as state,
      written_off_reason as "writtenOffReason",
      count(source.node_id) as sources,
      coalesce(sum(source.jobs), 0)::bigint as "uncountedJobs",
      coalesce(sum(source.votes), 0)::bigint as "uncountedVotes"
    from nodes
    left join source on source.node_id = nodes.id
    group by nodes.id
    order by name, id
  `.execute(db);
  return rows;
}

/** An operator's request. It is recorded with who made it and why. */
export interface OperatorRequest {
  readonly who: string;
  readonly why: string;
}

/** Result of a request about a node: `unknown` if no node that is in use has this id or name, `ambiguous` if several have this name. */
export type NodeRequestOutcome = 'done' | 'unknown' | 'ambiguous';

/** Asks the workers to retire a node: to fence its sources, and to expect nothing of it once all its votes are counted. */
export function requestRetirement(
  db: Db,
  node: string,
  request: OperatorRequest,
): Promise<NodeRequestOutcome> {
  return changeNode(db, node, 'retire', request, sql`retiring_at = coalesce(retiring_at, now())`);
}

/**
 * Declares the uncounted votes of a node lost, so that polls become final without them. Their results name the node. Revoked
 * when the node is read again before.
 */
export function writeOffNode(db: Db, node: string, request: OperatorRequest): Promise<NodeRequestOutcome> {
  const change = sql`written_off_at = now(), written_off_reason = ${request.why}`;
  return changeNode(db, node, 'write off', request, change);
}

/** Changes the only node in use of this id or name, and records the request in the same transaction. */
async function changeNode(
  db: Db,
  node: string,
  what: string,
  { who, why }: OperatorRequest,
  change: RawBuilder<unknown>,
): Promise<NodeRequestOutcome> {
  return db.transaction().execute(async (trx) => {
    const found = await trx
      .selectFrom('nodes')
      .select('id')
      .where((eb) => eb.or([eb('id', '=', node), eb('name', '=', node)]))
      .where('retired_at', 'is', null)
      .forUpdate()
      .execute();
    const [only] = found;
    if (!only) return 'unknown';
    if (found.length > 1) return 'ambiguous';
    await sql`update nodes set ${change} where id = ${only.id}`.execute(trx);
    await trx
      .insertInto('operator_actions')
      .values({ who, what: `${what} node ${only.id}`, why })
      .execute();
    return 'done';
  });
}

/** Returns the ids of the nodes that operators asked to retire and that are not retired yet. */
export async function readRetiringNodes(db: Db): Promise<ReadonlySet<string>> {
  const rows = await db
    .selectFrom('nodes')
    .select('id')
    .where('retiring_at', 'is not', null)
    .where('retired_at', 'is', null)
    .execute();
  return new Set(rows.map(({ id }) => id));
}

/**
 * Marks a node as retired whose sources are all fenced and counted.
 *
 * Correct under concurrency: call it only after the transaction in the node's Redis that fenced all sources and deleted the
 * node's id, and after the ledger read since then was mirrored. No source can register any more, and receipts only appear.
 *
 * @returns whether the node is retired
 */
export async function finishRetirement(db: Db, id: string): Promise<boolean> {
  const { rows } = await sql`
    update nodes set retired_at = now()
    where id = ${id} and retiring_at is not null and retired_at is null
      and not exists (
        select from sources
        where node_id = ${id}
          and (fenced_seq is null or compared_seq < fenced_seq or unexplained_votes <> 0)
      )
    returning id
  `.execute(db);
  return rows.length > 0;
}
