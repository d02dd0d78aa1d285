import { sql } from 'kysely';
import type { Db } from './client.ts';

const COLUMNS_OF_VOTES = ['poll_id', 'voter_id', 'choice_id', 'cast_at'];

/** What a reader may read: whole tables, and columns of `votes`. All else, and all writing but one, is the worker's. */
interface Reader {
  readonly role: string;
  readonly tables: readonly string[];
  readonly columnsOfVotes?: readonly string[];
  /** Whether it may say that a node will not come back. */
  readonly retiresNodes?: boolean;
}

const READERS: readonly Reader[] = [
  {
    role: 'turnout_results',
    tables: ['polls', 'choices', 'tallies', 'committed', 'ledgers', 'batches', 'retired_nodes'],
  },
  {
    role: 'turnout_dashboard',
    tables: ['committed', 'ledgers', 'batches', 'retired_nodes'],
    retiresNodes: true,
  },
  // A recount needs to know what was voted, not who voted.
  {
    role: 'turnout_audit',
    tables: ['committed', 'ledgers', 'batches', 'tallies', 'retired_nodes'],
    columnsOfVotes: ['poll_id', 'choice_id'],
  },
];

/**
 * Gives the roles of `db/roles.sql` the right to read what they need, and takes every other right to a table away. The
 * worker, who owns the tables, calls this when it has made them; so an upgrade never leaves a reader behind. Roles that do
 * not exist are left out: a database with a single user needs none.
 */
export async function grantReaders(db: Db): Promise<void> {
  await db.transaction().execute(async (transaction) => {
    // Two workers that change the rights of one table at the same time would fail with "tuple concurrently updated".
    await sql`select pg_advisory_xact_lock(hashtext('turnout grants'))`.execute(transaction);
    const { rows } = await sql<{ role: string }>`
      select rolname as role from pg_roles where rolname = any (${READERS.map(({ role }) => role)})
    `.execute(transaction);
    const tables = await readTables(transaction);
    for (const reader of READERS) {
      if (rows.some(({ role }) => role === reader.role)) await grant(transaction, tables, reader);
    }
  });
}

/** The tables that belong to the worker, whatever made them. */
async function readTables(db: Db): Promise<string[]> {
  const { rows } = await sql<{ name: string }>`
    select relname as name from pg_class
    where relnamespace = 'public'::regnamespace and relkind = 'r' and pg_has_role(relowner, 'usage')
    order by relname
  `.execute(db);
  return rows.map(({ name }) => name);
}

async function grant(db: Db, tables: readonly string[], reader: Reader): Promise<void> {
  const grantee = sql.id(reader.role);
  await sql`revoke all on ${list(tables)} from public, ${grantee}`.execute(db);
  // Rights to single columns outlive that.
  await sql`revoke select (${list(COLUMNS_OF_VOTES)}) on votes from public, ${grantee}`.execute(db);
  await sql`grant select on ${list(reader.tables)} to ${grantee}`.execute(db);
  if (reader.retiresNodes) await sql`grant insert, update on retired_nodes to ${grantee}`.execute(db);
  if (!reader.columnsOfVotes) return;
  await sql`grant select (${list(reader.columnsOfVotes)}) on votes to ${grantee}`.execute(db);
}

const list = (names: readonly string[]) => sql.join(names.map((name) => sql.id(name)));
