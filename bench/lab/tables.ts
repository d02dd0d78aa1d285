import { sql } from 'kysely';
import { auditSources, auditTallies } from '../../db/audit.ts';
import type { Db } from '../../db/client.ts';
import { until } from '../../test/support/until.ts';

/** Votes of committed jobs. */
export async function committedVotes(db: Db): Promise<number> {
  const { rows } = await sql<{ votes: number }>`
    select coalesce(sum(votes), 0)::bigint as votes from committed
  `.execute(db);
  return rows[0]?.votes ?? 0;
}

/** Rows of the votes table; what a baseline without receipts can be followed by. */
export async function storedVotes(db: Db): Promise<number> {
  const { rows } = await sql<{ votes: number }>`select count(*) as votes from votes`.execute(db);
  return rows[0]?.votes ?? 0;
}

/** Empties all that counts. */
export async function resetTables(db: Db): Promise<void> {
  await sql`truncate votes, batches, tallies, committed, ledgers, rejected_votes`.execute(db);
}

/** What the audit says once the mirror of the ledgers knows of all accepted votes. */
export interface AuditResult {
  readonly accepted: number;
  readonly committed: number;
  readonly lost: number;
  readonly tallyMismatches: number;
}

/**
 * Accounts for every accepted vote, with the queries of `npm run audit`. Call it when all queues are empty: then what a
 * ledger told and no receipt has is lost.
 *
 * @param accepted what the clients were told
 * @throws when the ledgers do not account for that much in time
 */
export async function audit(db: Db, accepted: number): Promise<AuditResult> {
  const sources = await until('the ledgers are mirrored', async () => {
    const found = await auditSources(db);
    return found.reduce((sum, { acceptedVotes }) => sum + acceptedVotes, 0) >= accepted && found;
  });
  const total = (of: (source: (typeof sources)[number]) => number): number =>
    sources.reduce((sum, source) => sum + of(source), 0);
  const ledger = total(({ acceptedVotes }) => acceptedVotes);
  const committed = total(({ votes }) => votes);
  const mismatches = await auditTallies(db);
  return { accepted: ledger, committed, lost: ledger - committed, tallyMismatches: mismatches.length };
}
