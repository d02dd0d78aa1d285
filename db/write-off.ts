import { sql } from 'kysely';
import { jobKey } from '#job';
import type { Db } from './client.ts';
import type { OperatorRequest } from './nodes.ts';

/** Most jobs of one request. Results and the audit name every one of them. */
export const JOBS_PER_WRITE_OFF_MAX = 100;

/** A job, by its source and its number there. */
export interface JobNumber {
  readonly source: string;
  readonly seq: number;
}

/**
 * Result of `writeOffJobs`: `unknown` names jobs that the ledger does not have, `counted` those that have a receipt, that of an
 * earlier write-off included.
 */
export type WriteOffOutcome =
  | { readonly outcome: 'done' }
  | { readonly outcome: 'unknown' | 'counted'; readonly jobs: readonly string[] };

/** Rolls the transaction back. */
class Refusal extends Error {
  readonly outcome: WriteOffOutcome;

  constructor(outcome: WriteOffOutcome) {
    super(outcome.outcome);
    this.outcome = outcome;
  }
}

/**
 * Declares uncounted jobs lost, all of them or none: each gets a receipt without votes, so that polls become final without it.
 * Their results name the jobs and the reason permanently. A job that arrives later fails, see `commitBatches`.
 *
 * Correct under concurrency:
 * - A job gets one receipt, from a commit or from here: the primary key of `receipts` makes the later one wait for the other.
 *   If the other commits, this call refuses, or the commit retries and finds the receipt.
 * - The foreign key of `written_off_jobs` locks the rows of the sources `for key share`, which excludes folds until the end of the
 *   transaction. The next statements have newer snapshots, so they see every receipt or the fold of it. A lock in a
 *   `select` would require the privilege to update `sources`.
 *
 * @param jobs at most `JOBS_PER_WRITE_OFF_MAX`, each once
 */
export async function writeOffJobs(
  db: Db,
  jobs: readonly JobNumber[],
  { who, why }: OperatorRequest,
): Promise<WriteOffOutcome> {
  if (jobs.length > JOBS_PER_WRITE_OFF_MAX) throw new RangeError(`${jobs.length} jobs in one write-off`);
  const keys = jobs.map(({ source, seq }) => jobKey(source, seq));
  const job = sql`unnest(
    ${keys}::text[], ${jobs.map(({ source }) => source)}::text[], ${jobs.map(({ seq }) => seq)}::bigint[]
  ) as job (key, source, seq)`;
  const work = db.transaction().execute(async (trx): Promise<WriteOffOutcome> => {
    const { rows: declared } = await sql<JobNumber>`
      insert into written_off_jobs (source, seq, reason)
      select source, seq, ${why} from ${job} join sources using (source)
      order by source, seq
      on conflict do nothing
      returning source, seq
    `.execute(trx);
    const { rows: unknown } = await sql<{ key: string }>`
      select key from ${job} left join sources using (source) where seq <= accepted_seq is not true
    `.execute(trx);
    if (unknown.length > 0) throw new Refusal({ outcome: 'unknown', jobs: unknown.map(({ key }) => key) });
    const { rows: receipts } = await sql<JobNumber>`
      insert into receipts (source, seq)
      select source, seq from ${job} join sources using (source)
      where seq > folded_seq
      order by source, seq
      on conflict do nothing
      returning source, seq
    `.execute(trx);
    const settled = [declared, receipts].map(
      (rows) => new Set(rows.map((row) => jobKey(row.source, row.seq))),
    );
    const counted = keys.filter((key) => settled.some((set) => !set.has(key)));
    if (counted.length > 0) throw new Refusal({ outcome: 'counted', jobs: counted });
    await trx
      .insertInto('operator_actions')
      .values({ who, what: `write off jobs ${keys.join(', ')}`, why })
      .execute();
    return { outcome: 'done' };
  });
  return work.catch((error: unknown) => {
    if (error instanceof Refusal) return error.outcome;
    throw error;
  });
}

/** Returns the reasons of those jobs that were written off, by job key. */
export async function readWrittenOff(
  db: Db,
  { sources, seqs }: { readonly sources: readonly string[]; readonly seqs: readonly number[] },
): Promise<ReadonlyMap<string, string>> {
  const { rows } = await sql<JobNumber & { reason: string }>`
    select source, seq, reason
    from written_off_jobs
    join unnest(${sources}::text[], ${seqs}::bigint[]) as job (source, seq) using (source, seq)
  `.execute(db);
  return new Map(rows.map(({ source, seq, reason }) => [jobKey(source, seq), reason]));
}
