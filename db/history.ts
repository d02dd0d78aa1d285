import { sql } from 'kysely';
import type { Db } from './client.ts';

/** Interval between two points of the history. */
export const HISTORY_SECONDS = 10;
/** Age at which a point is deleted, so that the table has at most 8,641 rows. */
const KEPT_SECONDS = 24 * 60 * 60;

/** How many votes all sources together had accepted at a time. */
export interface HistoryPoint {
  /** In milliseconds since 1970. */
  readonly at: number;
  readonly accepted: number;
}

/** Records a point unless this interval has one, and deletes old points. Safe to run at any time, in any number of processes. */
export async function recordHistory(db: Db): Promise<void> {
  await sql`
    with old as (
      delete from history where at < now() - ${KEPT_SECONDS} * interval '1 second'
    )
    insert into history (at, accepted)
    select date_bin(${HISTORY_SECONDS} * interval '1 second', now(), 'epoch'), coalesce(sum(accepted_votes), 0)
    from sources
    on conflict (at) do nothing
  `.execute(db);
}

/** Returns the points of the last day in order of time. */
export async function readHistory(db: Db): Promise<readonly HistoryPoint[]> {
  const { rows } = await sql<HistoryPoint>`
    select (extract(epoch from at) * 1000)::float8 as at, accepted::float8 as accepted from history order by at
  `.execute(db);
  return rows;
}
