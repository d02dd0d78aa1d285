import { sql } from 'kysely';
import type { Db } from './client.ts';

/** A poll that a node holds as closed, as read in the transaction that read the node's ledger and seals. */
export interface Closing {
  readonly nodeId: string;
  readonly poll: string;
  readonly revision: number;
}

/** A seal as read from a node. */
export interface SealReading {
  readonly source: string;
  readonly poll: string;
  readonly revision: number;
  readonly seq: number;
}

/**
 * Records that nodes hold polls as closed, and which sources must seal them: all those known when a node is recorded, first and
 * again for each Postgres server. A source that registers later reads the poll as closed before it is ready, so it accepts no vote
 * for this revision; it seals it nevertheless.
 *
 * Call it after `mirrorNodes` with the same reading and server: then the sources of the reading are known here.
 */
export async function recordClosings(db: Db, closings: readonly Closing[], server: string): Promise<void> {
  if (closings.length === 0) return;
  await sql`
    with closing as (
      insert into closings as mine (poll_no, node_id, revision, read_since)
      select polls.no, entry.node_id, entry.revision, ${server}::timestamptz
      from unnest(
        ${closings.map(({ nodeId }) => nodeId)}::text[],
        ${closings.map(({ poll }) => poll)}::text[],
        ${closings.map(({ revision }) => revision)}::int[]
      ) as entry (node_id, poll, revision)
      join polls on polls.id = entry.poll and final_at is null
      order by polls.no, entry.node_id
      on conflict (poll_no, node_id) do update
        set revision = excluded.revision, read_at = now(), read_since = excluded.read_since
        where mine.revision < excluded.revision
          or (mine.revision = excluded.revision and mine.read_since <> excluded.read_since)
      returning poll_no, node_id, revision
    )
    insert into seals as mine (poll_no, source, revision)
    select poll_no, source, revision
    from closing
    join sources using (node_id)
    where fenced_seq is null
    order by poll_no, source
    on conflict (poll_no, source) do update set revision = excluded.revision, seq = null
      where mine.revision < excluded.revision
  `.execute(db);
}

/** Records seals. A seal never changes, so concurrent calls may run in any order. */
export async function recordSeals(db: Db, seals: readonly SealReading[]): Promise<void> {
  if (seals.length === 0) return;
  await sql`
    update seals set seq = entry.seq
    from unnest(
      ${seals.map(({ source }) => source)}::text[],
      ${seals.map(({ poll }) => poll)}::text[],
      ${seals.map(({ revision }) => revision)}::int[],
      ${seals.map(({ seq }) => seq)}::bigint[]
    ) as entry (source, poll, revision, seq)
    join polls on polls.id = entry.poll
    where seals.poll_no = polls.no and seals.source = entry.source and seals.revision = entry.revision
      and seals.seq is null
  `.execute(db);
}

/** Why a closed poll is not final yet: nodes not read since it closed and Postgres started, and sources not proven complete. */
export interface Awaited {
  readonly nodes: readonly string[];
  readonly unsealed: readonly string[];
  /** Sources with jobs that have no receipt, or whose receipts have not been compared with the ledger. */
  readonly uncounted: readonly string[];
  /** Sources whose receipts and ledger differ in votes. */
  readonly unexplained: readonly string[];
}

/** Returns the ids of the polls that are closed and not final. */
export async function readClosedPolls(db: Db): Promise<ReadonlySet<string>> {
  return new Set((await closedPolls(db)).map(({ id }) => id));
}

/** Returns the closed polls that are not final, and what each awaits. */
export async function readAwaited(db: Db): Promise<Map<string, Awaited>> {
  const awaited = new Map<string, Awaited>();
  for (const { id, no, revision } of await closedPolls(db))
    awaited.set(id, await awaitedFor(db, no, revision));
  return awaited;
}

/**
 * Makes a closed poll final if everything that was accepted for it is counted: every node in use was read after the close was
 * stored in it, and since Postgres started (it may have been restored from a backup, and the nodes hold newer polls); every
 * source has sealed the poll or is fenced, and the receipts up to that job are complete and agree with the ledger. Stores the
 * result and its evidence: the counts, the last job of each source, and nodes and jobs written off. A job written off may have had
 * votes for any poll, so each poll names those up to the last job of their source.
 *
 * Correct under concurrency: `for update` on the poll's row waits for commits that count votes for it, and later commits
 * see that it is final and reject such votes. Changes of the poll take the same lock. The statements after the lock read newer
 * snapshots, so they see all that those commits wrote. `test/model` explores the protocol.
 *
 * @returns whether the poll became final
 */
export async function finalizePoll(db: Db, poll: string): Promise<boolean> {
  return db.transaction().execute(async (trx) => {
    const row = await trx
      .selectFrom('polls')
      .select(['no', 'revision'])
      .where('id', '=', poll)
      .where('closed_at', 'is not', null)
      .where('final_at', 'is', null)
      .forUpdate()
      .executeTakeFirst();
    if (!row) return false;
    if (!isEmpty(await awaitedFor(trx, row.no, row.revision))) return false;
    await sql`
      update polls set final_at = now(), result = json_build_object(
        'choices', (
          select json_agg(
            json_build_object('id', id, 'label', label, 'votes', coalesce(votes, 0)) order by position nulls last, choices.no
          )
          from choices
          left join (
            select choice_no, sum(votes)::bigint as votes from tallies where poll_no = ${row.no} group by choice_no
          ) as tally on tally.choice_no = choices.no
          where choices.poll_no = ${row.no}
        ),
        'sources', (
          select coalesce(json_object_agg(source, coalesce(fenced_seq, seals.seq) order by source), '{}')
          from seals
          join sources using (source)
          where poll_no = ${row.no} and revision = ${row.revision} and coalesce(fenced_seq, seals.seq) is not null
        ),
        'writtenOff', (
          select coalesce(json_agg(json_build_object('id', id, 'name', name, 'reason', written_off_reason) order by id), '[]')
          from nodes
          where written_off_at is not null
        ),
        'writtenOffJobs', (
          select coalesce(json_agg(json_build_object('id', id, 'name', name, 'reason', reason, 'jobs', jobs) order by id, reason), '[]')
          from (
            select nodes.id, nodes.name, reason,
              json_agg(job.source || '.' || job.seq order by job.source, job.seq) as jobs
            from written_off_jobs as job
            join sources using (source)
            join nodes on nodes.id = node_id
            left join seals on seals.poll_no = ${row.no} and seals.source = job.source and seals.revision = ${row.revision}
            where job.seq <= coalesce(fenced_seq, seals.seq) and (fenced_poll_no >= ${row.no}) is not false
            group by nodes.id, reason
          ) as entry
        )
      )
      where no = ${row.no}
    `.execute(trx);
    await trx.deleteFrom('seals').where('poll_no', '=', row.no).execute();
    await trx.deleteFrom('closings').where('poll_no', '=', row.no).execute();
    return true;
  });
}

/** Returns whether nothing is awaited. */
function isEmpty({ nodes, unsealed, uncounted, unexplained }: Awaited): boolean {
  return nodes.length + unsealed.length + uncounted.length + unexplained.length === 0;
}

function closedPolls(db: Db) {
  return db
    .selectFrom('polls')
    .select(['id', 'no', 'revision'])
    .where('closed_at', 'is not', null)
    .where('final_at', 'is', null)
    .execute();
}

async function awaitedFor(db: Db, pollNo: number, revision: number): Promise<Awaited> {
  const { rows } = await sql<Awaited>`
    with node as (
      select id from nodes where retired_at is null and written_off_at is null
    ),
    source as (
      select sources.*, coalesce(fenced_seq, seals.seq) as last_seq, seals.source is not null as must_seal
      from sources
      join node on node.id = sources.node_id
      left join seals on seals.poll_no = ${pollNo} and seals.source = sources.source and seals.revision = ${revision}
    )
    select
      array(
        select id from node
        where not exists (
          select from closings
          where poll_no = ${pollNo} and node_id = node.id and revision = ${revision}
            and read_since = pg_postmaster_start_time()
        )
        order by id
      ) as nodes,
      array(select source from source where must_seal and last_seq is null order by source) as unsealed,
      array(select source from source where compared_seq < last_seq order by source) as uncounted,
      array(select source from source where last_seq is not null and unexplained_votes <> 0 order by source) as unexplained
  `.execute(db);
  return rows[0] as Awaited;
}
