/** SQLSTATE classes and codes, see appendix A of the Postgres manual. */
const DATA_EXCEPTION_CLASS = '22';
const INTEGRITY_VIOLATION_CLASS = '23';
const UNIQUE_VIOLATION = '23505';
const SERIALIZATION_FAILURE = '40001';
const DEADLOCK_DETECTED = '40P01';
const UNDEFINED_TABLE = '42P01';
const QUERY_CANCELED = '57014';

/** Returns whether a statement failed because a table is missing: no worker has migrated the schema yet. */
export function isUndefinedTable(error: unknown): boolean {
  return codeOf(error) === UNDEFINED_TABLE;
}

/** Returns whether Postgres canceled a statement: at its time limit, or because an administrator asked for it. */
export function isStatementTimeout(error: unknown): boolean {
  return codeOf(error) === QUERY_CANCELED;
}

/** How to react to a failed statement: `permanent` means that a retry cannot succeed. */
export type RetryPolicy = 'retry-now' | 'back-off' | 'permanent';

/** The statement lost a race against another commit. */
const RACES: ReadonlySet<unknown> = new Set([SERIALIZATION_FAILURE, DEADLOCK_DETECTED, UNIQUE_VIOLATION]);

/**
 * Returns the retry policy for an error of a commit. A unique violation is a race too: another worker has just written
 * the same receipt. Only other errors about the statement's data are permanent. All remaining ones (connection, resources,
 * start-up and shutdown, time-out, missing table or privilege) pass or are fixed by an operator.
 */
export function retryPolicyFor(error: unknown): RetryPolicy {
  const code = codeOf(error);
  if (RACES.has(code)) return 'retry-now';
  const isAboutData =
    typeof code === 'string' &&
    code.length === 5 &&
    (code.startsWith(DATA_EXCEPTION_CLASS) || code.startsWith(INTEGRITY_VIOLATION_CLASS));
  return isAboutData ? 'permanent' : 'back-off';
}

function codeOf(error: unknown): unknown {
  return (error as { code?: unknown } | null)?.code;
}
