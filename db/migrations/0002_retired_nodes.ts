import { type Kysely, sql } from 'kysely';

/** Nodes of which an operator has said that they will not come back. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    create table retired_nodes (
      node text collate "C" primary key,
      retired_at timestamptz not null default now()
    )`.execute(db);
}
