/** Settings without which a crash of Postgres or of its machine may lose a commit that it has acknowledged. */
const SAFE_VALUES: Readonly<Record<string, readonly string[]>> = {
  fsync: ['on'],
  // `off` acknowledges a commit before it is on disk. All others wait at least for the local disk.
  synchronous_commit: ['on', 'local', 'remote_write', 'remote_apply'],
  // `off` may leave a page half written by a crash beyond repair.
  full_page_writes: ['on'],
};

/**
 * Longest use of a session since its last check. The settings change while Postgres runs, and `synchronous_commit` differs
 * by database, role and session.
 */
export const SESSION_CHECK_INTERVAL_MS = 1_000;

/** Returns the settings as one row. */
export const DURABILITY_QUERY = `select ${Object.keys(SAFE_VALUES)
  .map((name) => `current_setting('${name}') as ${name}`)
  .join(', ')}`;

/** The session could lose a commit. The operator must change the settings that the message names. */
export class UnsafePostgresError extends Error {
  override readonly name = 'UnsafePostgresError';
}

/**
 * Checks a row of `DURABILITY_QUERY`. Nothing is set here: a worker cannot set the other two, and a session that overrides
 * what the operator configured would hide the fault.
 *
 * @throws UnsafePostgresError naming every unsafe setting and its safe values
 */
export function assertDurable(row: Readonly<Record<string, unknown>> = {}): void {
  const faults = Object.entries(SAFE_VALUES)
    .filter(([name, safe]) => !safe.some((value) => value === row[name]))
    .map(([name, safe]) => `${name} is ${row[name]}, must be ${safe.join(' or ')}`);
  if (faults.length > 0) throw new UnsafePostgresError(`Postgres is not durable: ${faults.join('; ')}`);
}
