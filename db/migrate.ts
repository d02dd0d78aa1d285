import { type Kysely, sql } from 'kysely';
import { type Migration, Migrator } from 'kysely/migration';
import * as initial from './migrations/0001_initial.ts';
import * as retiredNodes from './migrations/0002_retired_nodes.ts';
import * as leases from './migrations/0003_leases.ts';

/** Applied in the order of their names. A migration never changes once it has landed. */
const MIGRATIONS: Readonly<Record<string, Migration>> = {
  '0001_initial': initial,
  '0002_retired_nodes': retiredNodes,
  '0003_leases': leases,
};

/** Result of `migrate`. */
export interface MigrationResult {
  /** The names of the migrations that this call applied. */
  readonly applied: readonly string[];
  /** The names of migrations applied by a newer release. Migrations only expand, so this release still works. */
  readonly unknown: readonly string[];
}

/** A migration failed and was rolled back. */
class MigrationError extends Error {
  override readonly name = 'MigrationError';
}

/**
 * Applies all pending migrations. Safe to call from several processes at once: Kysely takes a lock in Postgres. Uses two
 * connections.
 *
 * @throws MigrationError naming the migration that failed, after its rollback
 */
export async function migrate<T>(db: Kysely<T>): Promise<MigrationResult> {
  let unknown: readonly string[] = [];
  const getMigrations = async (): Promise<Record<string, Migration>> => {
    // Kysely calls this under its lock, so no other process is migrating.
    unknown = await unknownMigrations(db);
    // Kysely refuses a schema with a migration that it is not given. An applied migration never runs again.
    const placeholders = unknown.map((name): [string, Migration] => [name, { up: async () => {} }]);
    return { ...MIGRATIONS, ...Object.fromEntries(placeholders) };
  };
  const { error, results = [] } = await new Migrator({ db, provider: { getMigrations } }).migrateToLatest();
  const failed = results.find(({ status }) => status === 'Error');
  if (failed) {
    const message = `migration ${failed.migrationName} failed: ${(error as Error).message}`;
    throw new MigrationError(message, { cause: error });
  }
  if (error) throw error;
  const applied = results.filter(({ status }) => status === 'Success');
  return { applied: applied.map(({ migrationName }) => migrationName), unknown };
}

/** Returns the names of applied migrations that are not in `MIGRATIONS`, sorted. */
async function unknownMigrations<T>(db: Kysely<T>): Promise<string[]> {
  const { rows } = await sql<{ name: string }>`select name from kysely_migration order by name`.execute(db);
  return rows.map(({ name }) => name).filter((name) => !Object.hasOwn(MIGRATIONS, name));
}
