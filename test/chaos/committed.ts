import { auditSources } from '#db/audit.ts';
import type { Db } from '#db/client.ts';
import type { LedgerEntry } from '#job';

/** Returns whether every job of these ledger entries has a receipt. A fenced source may have more jobs, which are discarded. */
export async function areCommitted(
  db: Db,
  ledger: Iterable<readonly [source: string, entry: LedgerEntry]>,
): Promise<boolean> {
  const sources = new Map((await auditSources(db)).map((source) => [source.source, source]));
  return [...ledger].every(([source, { seq }]) => {
    const audit = sources.get(source);
    return audit && (audit.fencedSeq !== null || audit.acceptedSeq >= seq) && audit.missingJobs === 0;
  });
}
