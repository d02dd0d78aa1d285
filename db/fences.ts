import { sql } from 'kysely';
import type { LedgerEntry } from '#job';
import type { Db } from './client.ts';

/** A source has this long to seal a poll after the close was stored in its node. Then it is fenced. */
const SEAL_MS_MAX = 5_000;
/** Nodes keep the ledger of a fenced source for this long: it proves what a Postgres restored from a backup lacks. */
const FENCED_LEDGER_DAYS = 30;

/** Returns the sources that have not sealed a closed poll in time, by node. */
export async function readOverdueSources(db: Db, msMax = SEAL_MS_MAX): Promise<Map<string, string[]>> {
  const { rows } = await sql<{ nodeId: string; sources: string[] }>`
    select sources.node_id as "nodeId", array_agg(distinct source) as sources
    from seals
    join sources using (source)
    join closings on closings.poll_no = seals.poll_no and closings.node_id = sources.node_id
      and closings.revision = seals.revision
    join polls on polls.no = seals.poll_no and polls.revision = seals.revision
    where seals.seq is null and fenced_seq is null and final_at is null
      and closings.read_at < now() - ${msMax}::int * interval '1 millisecond'
    group by sources.node_id
  `.execute(db);
  return new Map(rows.map(({ nodeId, sources }) => [nodeId, sources]));
}

/**
 * Records that sources were fenced in their node's Redis. From now on, jobs above the fence are discarded.
 *
 * Correct under concurrency: `for update` waits for commits of the source, and later ones re-read the row. The fence is the
 * highest number known, because a job with a receipt counts; it never changes.
 *
 * @param entries the ledger entries as read in a transaction in which the sources were in the set of fenced sources
 * @returns the sources whose fence this call recorded
 */
export async function recordFences(db: Db, entries: ReadonlyMap<string, LedgerEntry>): Promise<string[]> {
  const recorded: string[] = [];
  for (const [source, { seq, votes }] of entries) {
    await db.transaction().execute(async (trx) => {
      const row = await trx
        .selectFrom('sources')
        .select(['fenced_seq'])
        .where('source', '=', source)
        .forUpdate()
        .executeTakeFirst();
      if (!row || row.fenced_seq !== null) return;
      // A statement of its own: its snapshot is newer than the lock.
      await sql`
        update sources set fenced_seq = last.seq, fenced_at = now(), fenced_poll_no = (select max(no) from polls),
          accepted_seq = last.seq, accepted_votes = greatest(accepted_votes, ${votes})
        from (
          select greatest(${seq}::bigint, accepted_seq, folded_seq, max(receipts.seq)) as seq
          from sources
          left join receipts using (source)
          where source = ${source}
          group by accepted_seq, folded_seq
        ) as last
        where source = ${source}
      `.execute(trx);
      recorded.push(source);
    });
  }
  return recorded;
}

/**
 * Returns which of the sources have a recorded fence, and whether nodes may forget them: all their receipts are folded, and
 * the fence is older than any backup that may be restored.
 */
export async function readFenced(
  db: Db,
  sources: readonly string[],
): Promise<ReadonlyMap<string, { readonly isForgettable: boolean }>> {
  if (sources.length === 0) return new Map();
  const { rows } = await sql<{ source: string; isForgettable: boolean }>`
    select source,
      compared_seq >= fenced_seq and fenced_at < now() - ${FENCED_LEDGER_DAYS}::int * interval '1 day' as "isForgettable"
    from sources
    where source = any (${sources}::text[]) and fenced_seq is not null
  `.execute(db);
  return new Map(rows.map(({ source, isForgettable }) => [source, { isForgettable }]));
}
