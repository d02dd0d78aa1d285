import { sql } from 'kysely';
import type { Db } from './client.ts';

/** The privileges of a role beside the worker's, which owns the tables and has all of them. */
interface Grantee {
  readonly role: string;
  /** Tables and views. */
  readonly reads: readonly string[];
  /** Single columns that the role may read, by table. */
  readonly columns?: Readonly<Record<string, readonly string[]>>;
  /** Columns that the role may change, by table. */
  readonly updates?: Readonly<Record<string, readonly string[]>>;
  /** Columns that the role may set in new rows, by table. The others keep their defaults. */
  readonly inserts?: Readonly<Record<string, readonly string[]>>;
}

/** Sums over votes for the anomaly report, see the migration. They show no voter and no choice. */
const ANOMALY_VIEWS = ['vote_times', 'mint_bursts', 'one_poll_voters'];

const GRANTEES: readonly Grantee[] = [
  {
    role: 'turnout_results',
    reads: ['polls', 'choices', 'tallies', 'sources', 'history', 'receipts', 'written_off_jobs'],
  },
  {
    role: 'turnout_dashboard',
    reads: [
      ...['polls', 'nodes', 'sources', 'receipts', 'written_off_jobs', 'closings', 'seals'],
      'operator_actions',
      ...ANOMALY_VIEWS,
    ],
    updates: {
      nodes: ['retiring_at', 'written_off_at', 'written_off_reason'],
      // What operators change of a poll at run time. Neither a result nor that it is final is among them.
      polls: ['opens_at', 'closes_at', 'closed_at', 'results', 'revision', 'forgotten_at'],
    },
    inserts: {
      operator_actions: ['who', 'what', 'why', 'poll'],
      written_off_jobs: ['source', 'seq', 'reason'],
      // A receipt without votes. Without a write-off beside it, the audit reports the votes of its job as lost.
      receipts: ['source', 'seq'],
    },
  },
  // A recount needs the choices but not the voters, and neither does the count of late votes.
  {
    role: 'turnout_audit',
    reads: [
      ...['polls', 'choices', 'tallies', 'nodes', 'sources', 'receipts', 'written_off_jobs'],
      ...['closings', 'seals'],
      ...ANOMALY_VIEWS,
    ],
    columns: { votes: ['poll_no', 'choice_no'], rejected_votes: ['source', 'reason'] },
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
      select rolname as role from pg_roles where rolname = any (${GRANTEES.map(({ role }) => role)})
    `.execute(transaction);
    const tables = await ownedTables(transaction);
    for (const grantee of GRANTEES) {
      if (rows.some(({ role }) => role === grantee.role)) await grant(transaction, tables, grantee);
    }
  });
}

/** Returns the tables and views that the current role owns, itself or as a member of the owner. */
async function ownedTables(db: Db): Promise<string[]> {
  const { rows } = await sql<{ name: string }>`
    select relname as name from pg_class
    where relnamespace = 'public'::regnamespace and relkind in ('r', 'v') and pg_has_role(relowner, 'usage')
    order by relname
  `.execute(db);
  return rows.map(({ name }) => name);
}

async function grant(
  db: Db,
  tables: readonly string[],
  { role, reads, columns = {}, updates = {}, inserts = {} }: Grantee,
): Promise<void> {
  const grantee = sql.id(role);
  // Revokes privileges on single columns as well.
  await sql`revoke all on ${list(tables)} from public, ${grantee}`.execute(db);
  await sql`grant select on ${list(reads)} to ${grantee}`.execute(db);
  for (const [table, names] of Object.entries(columns)) {
    await sql`grant select (${list(names)}) on ${sql.id(table)} to ${grantee}`.execute(db);
  }
  for (const [table, names] of Object.entries(inserts)) {
    await sql`grant insert (${list(names)}) on ${sql.id(table)} to ${grantee}`.execute(db);
  }
  for (const [table, names] of Object.entries(updates)) {
    // "for update" on a row needs the privilege to change one of its columns.
    await sql`grant update (${list(names)}) on ${sql.id(table)} to ${grantee}`.execute(db);
  }
}

const list = (names: readonly string[]) => sql.join(names.map((name) => sql.id(name)));
