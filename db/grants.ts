import { sql } from 'kysely';
import type { Db } from './client.ts';

/** The privileges of a read-only role. The worker, which owns the tables, has all others. */
interface Reader {
  readonly role: string;
  readonly tables: readonly string[];
  readonly votesColumns?: readonly string[];
  /** Whether the role may write to `retired_nodes`. */
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
  // A recount needs the choices but not the voters.
  {
    role: 'turnout_audit',
    tables: ['committed', 'ledgers', 'batches', 'tallies', 'retired_nodes'],
    votesColumns: ['poll_id', 'choice_id'],
  },
];

/**
 * Grants the roles of `db/roles.sql` exactly the privileges they need and revokes all others on tables. The worker calls
 * this at each start, after the migration, so an upgrade also updates the readers. Roles that do not exist are skipped: a
 * database with a single user needs none.
 */
export async function grantReaders(db: Db): Promise<void> {
  await db.transaction().execute(async (transaction) => {
    // Serializes workers: concurrent grants on one table fail with "tuple concurrently updated".
    await sql`select pg_advisory_xact_lock(hashtext('turnout grants'))`.execute(transaction);
    const { rows } = await sql<{ role: string }>`
      select rolname as role from pg_roles where rolname = any (${READERS.map(({ role }) => role)})
    `.execute(transaction);
    const tables = await ownedTables(transaction);
    for (const reader of READERS) {
      if (rows.some(({ role }) => role === reader.role)) await grant(transaction, tables, reader);
    }
  });
}

/** Returns the tables that the current role owns, itself or as a member of the owner. */
async function ownedTables(db: Db): Promise<string[]> {
  const { rows } = await sql<{ name: string }>`
    select relname as name from pg_class
    where relnamespace = 'public'::regnamespace and relkind = 'r' and pg_has_role(relowner, 'usage')
    order by relname
  `.execute(db);
  return rows.map(({ name }) => name);
}

async function grant(db: Db, tables: readonly string[], reader: Reader): Promise<void> {
  const grantee = sql.id(reader.role);
  // Revokes privileges on single columns as well.
  await sql`revoke all on ${list(tables)} from public, ${grantee}`.execute(db);
  await sql`grant select on ${list(reader.tables)} to ${grantee}`.execute(db);
  if (reader.retiresNodes) await sql`grant insert, update on retired_nodes to ${grantee}`.execute(db);
  if (!reader.votesColumns) return;
  await sql`grant select (${list(reader.votesColumns)}) on votes to ${grantee}`.execute(db);
}

const list = (names: readonly string[]) => sql.join(names.map((name) => sql.id(name)));
