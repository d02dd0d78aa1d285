import { type Kysely, sql } from 'kysely';

/** Creates the table of nodes that an operator has retired. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table retired_nodes (
      node text collate "C" primary key,
      retired_at timestamptz not null default now()
    )`.execute(db);
}
