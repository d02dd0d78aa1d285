import { auditSources, auditTallies } from '#db/audit.ts';
import type { Db } from '#db/client.ts';
import type { Vote } from '#job';
import { storedVotes } from '#kit/tables.ts';
import { POLL } from '#kit/votes.ts';
import type { Crowd, CrowdVoter } from './crowd.ts';

/** Result of a run. All numbers but the first two must be 0. */
export interface Verdict {
  readonly accepted: number;
  readonly voters: number;
  /** Voters with a 202 who have no stored vote, or only an older one. */
  readonly lost: number;
  /** Voters whose stored vote is neither their last one with a 202 nor a later one they sent. */
  readonly wrong: number;
  /** Counted votes in excess of voters. */
  readonly double: number;
  /** Choices whose tally differs from a recount. */
  readonly tallyMismatches: number;
  /** Job numbers in a ledger without a receipt. */
  readonly missingJobs: number;
  /** Responses other than 202 and 503, invalid tokens, and processes that exited without a fault. */
  readonly unexpected: number;
  readonly details: readonly string[];
}

/** Compares the crowd's records with the tables. */
export async function judge(db: Db, crowd: Crowd): Promise<Verdict> {
  const stored = await storedVotes(db);
  const sources = await auditSources(db);
  const mismatches = await auditTallies(db);
  const details: string[] = [...new Set(crowd.unexpected)];
  let lost = 0;
  let wrong = 0;
  for (const voter of crowd.voters.values()) {
    const fault = faultOf(voter, stored.get(`${POLL} ${voter.id}`));
    if (fault === undefined) continue;
    if (fault === 'lost') lost += 1;
    else wrong += 1;
    if (details.length < 10) details.push(`${fault}: ${voter.id}, accepted ${voter.accepted.join(' ')}`);
  }
  const counted = sources.reduce((sum, source) => sum + source.counted, 0);
  for (const { source, missing } of sources) {
    if (missing.length > 0) details.push(`${source}: no receipt for ${missing.join(', ')}`);
  }
  return {
    accepted: crowd.counts.accepted,
    voters: crowd.voters.size,
    lost,
    wrong,
    double: counted - stored.size,
    tallyMismatches: mismatches.length,
    missingJobs: sources.reduce((sum, { missingJobs }) => sum + missingJobs, 0),
    unexpected: crowd.unexpected.length,
    details,
  };
}

/** Returns whether the run found no fault. */
export function isClean({
  accepted,
  lost,
  wrong,
  double,
  tallyMismatches,
  missingJobs,
  unexpected,
}: Verdict): boolean {
  return (
    accepted > 0 &&
    [lost, wrong, double, tallyMismatches, missingJobs, unexpected].every((count) => count === 0)
  );
}

function faultOf(
  { accepted, uncertain }: CrowdVoter,
  stored: Vote | undefined,
): 'lost' | 'wrong' | undefined {
  if (!stored || stored[3] < accepted[3]) return 'lost';
  if (stored[3] === accepted[3]) return stored[2] === accepted[2] ? undefined : 'wrong';
  return uncertain.includes(stored[2]) ? undefined : 'wrong';
}
