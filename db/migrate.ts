import type { Kysely } from 'kysely';
import { type MigrationProvider, Migrator } from 'kysely/migration';
import * as initial from './migrations/0001_initial.ts';
import * as retiredNodes from './migrations/0002_retired_nodes.ts';

/** In the order of their names. A migration that has landed never changes. */
const provider: MigrationProvider = {
  getMigrations: async () => ({ '0001_initial': initial, '0002_retired_nodes': retiredNodes }),
};

/**
 * Brings the schema up to date. Any number of processes may call this at the same time: a lock in Postgres lets one of
 * them work while the others wait.
 *
 * @returns the names of the migrations that this call applied
 * @throws the error of the migration that failed; what it had done is rolled back
 */
export async function migrate<T>(db: Kysely<T>): Promise<string[]> {
  const { error, results = [] } = await new Migrator({ db, provider }).migrateToLatest();
  if (error) throw error;
  return results.filter(({ status }) => status === 'Success').map(({ migrationName }) => migrationName);
}
