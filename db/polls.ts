import { sql } from 'kysely';
import type { Db } from './client.ts';

/** A poll as defined in the polls file. Times are in milliseconds since 1970. */
interface PollDefinition {
  readonly id: string;
  readonly question: string;
  readonly choices: readonly { readonly id: string; readonly label: string }[];
  readonly opensAt?: number | undefined;
  readonly closesAt?: number | undefined;
}

/** Position of choices that the file does not contain. */
const LAST_POSITION = 2 ** 31 - 1;

/**
 * Upserts the polls and choices of the polls file. One that was removed from the file stays, because votes for it may still
 * be queued: the poll is hidden, the choice moves to the end.
 */
export async function upsertPolls(db: Db, polls: readonly PollDefinition[]): Promise<void> {
  await db.transaction().execute(async (trx) => {
    // Serializes workers that start together: they could lock the same rows in different orders.
    await sql`select pg_advisory_xact_lock(hashtext('turnout polls'))`.execute(trx);
    const ids = polls.map(({ id }) => id);
    await trx.updateTable('polls').set({ position: null }).where('id', 'not in', ids).execute();
    await trx
      .insertInto('polls')
      .values(
        polls.map(({ id, question, opensAt, closesAt }, position) => ({
          id,
          question,
          opens_at: opensAt === undefined ? null : new Date(opensAt),
          closes_at: closesAt === undefined ? null : new Date(closesAt),
          position,
        })),
      )
      .onConflict((conflict) =>
        conflict.column('id').doUpdateSet(({ ref }) => ({
          question: ref('excluded.question'),
          opens_at: ref('excluded.opens_at'),
          closes_at: ref('excluded.closes_at'),
          position: ref('excluded.position'),
        })),
      )
      .execute();
    await trx.updateTable('choices').set({ position: LAST_POSITION }).execute();
    await trx
      .insertInto('choices')
      .values(
        polls.flatMap((poll) =>
          poll.choices.map(({ id, label }, position) => ({ poll_id: poll.id, id, label, position })),
        ),
      )
      .onConflict((conflict) =>
        conflict
          .columns(['poll_id', 'id'])
          .doUpdateSet(({ ref }) => ({ label: ref('excluded.label'), position: ref('excluded.position') })),
      )
      .execute();
  });
}
