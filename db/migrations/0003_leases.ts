import { type Kysely, sql } from 'kysely';

/** Creates the table of leases, see `acquireLease`. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table leases (
      name text collate "C" primary key,
      holder text not null,
      expires_at timestamptz not null
    )`.execute(db);
}
