import type { Kysely } from 'kysely';
import { type MigrationProvider, Migrator } from 'kysely/migration';
import * as initial from './migrations/0001_initial.ts';
import * as retiredNodes from './migrations/0002_retired_nodes.ts';

/** Applied in the order of their names. A migration never changes once it has landed. */
const provider: MigrationProvider = {
  getMigrations: async () => ({ '0001_initial': initial, '0002_retired_nodes': retiredNodes }),
};

/**
 * Applies all pending migrations. Safe to call from several processes at once: Kysely takes a lock in Postgres.
 *
 * @returns the names of the migrations that this call applied
 * @throws the error of the migration that failed, after its rollback
 */
export async function migrate<T>(db: Kysely<T>): Promise<string[]> {
  const { error, results = [] } = await new Migrator({ db, provider }).migrateToLatest();
  if (error) throw error;
  return results.filter(({ status }) => status === 'Success').map(({ migrationName }) => migrationName);
}
