import { type Kysely, sql } from 'kysely';

/** How many votes all sources had accepted, every few seconds of the last day, see `db/history.ts`. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table history (
      at timestamptz primary key,
      accepted bigint not null
    )`.execute(db);
}
