import { type Kysely, sql } from 'kysely';
import { type Migration, Migrator } from 'kysely/migration';
import * as initial from './migrations/0001_initial.ts';
import * as history from './migrations/0002_history.ts';

/** Applied in the order of their names. A migration never changes once it has landed. */
const MIGRATIONS: Readonly<Record<string, Migration>> = {
  '0001_initial': initial,
  '0002_history': history,
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

/** The schema is that of a version that was never released, and no migration leads from it to this one. */
class OldSchemaError extends Error {
  override readonly name = 'OldSchemaError';

  constructor() {
    super(
      'the database was made by a version before 0.2 and cannot be migrated; start with an empty database or data folder',
    );
  }
}

/**
 * Applies all pending migrations. Safe to call from several processes at once: Kysely takes a lock in Postgres. Uses two
 * connections.
 *
 * @throws OldSchemaError when the database cannot be migrated
 * @throws MigrationError naming the migration that failed, after its rollback
 */
export async function migrate<T>(db: Kysely<T>): Promise<MigrationResult> {
  if (await isBefore02(db)) throw new OldSchemaError();
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

/** Versions before 0.2 kept receipts in the table `batches`. */
async function isBefore02<T>(db: Kysely<T>): Promise<boolean> {
  const { rows } = await sql<{ isOld: boolean }>`
    select to_regclass('public.batches') is not null as "isOld"
  `.execute(db);
  return rows[0]?.isOld === true;
}
