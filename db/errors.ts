/**
 * Classes and codes of SQLSTATE (Postgres manual, appendix A) that speak of the data of the statement. All others speak
 * of the server, the network or the schema: they pass, or an operator mends them, and then the same statement succeeds.
 */
const DATA_EXCEPTION_CLASS = '22';
const INTEGRITY_VIOLATION_CLASS = '23';
const UNIQUE_VIOLATION = '23505';

/** What to do about a failed statement. */
export type RetryPolicy = 'retry at once' | 'retry later' | 'give up';

/** Lost a race against another commit: nothing to wait for. */
const RACES: ReadonlySet<unknown> = new Set(['40001', '40P01', UNIQUE_VIOLATION]);

/**
 * Sorts an error of a commit. A lost race (serialization failure, deadlock, a receipt that another worker just wrote)
 * is retried at once; anything that may pass (no connection, too many of them, a server that shuts down or starts up, a
 * full disk, a time-out) later, for as long as it takes; only an error about the data itself is final.
 */
export function retryPolicyFor(error: unknown): RetryPolicy {
  const code = (error as { code?: unknown } | null)?.code;
  if (RACES.has(code)) return 'retry at once';
  const isAboutData =
    typeof code === 'string' &&
    code.length === 5 &&
    (code.startsWith(DATA_EXCEPTION_CLASS) || code.startsWith(INTEGRITY_VIOLATION_CLASS));
  return isAboutData ? 'give up' : 'retry later';
}
