import { auditSources, auditTallies } from '#db/audit.ts';
import type { Db } from '#db/client.ts';
import { readResults } from '#db/results.ts';
import type { Vote } from '#job';
import { storedVotes } from '#kit/tables.ts';
import type { Ballot, Crowd } from './crowd.ts';
import type { Shows } from './shows.ts';

/** Result of a run. All numbers but the first two must be 0. */
export interface Verdict {
  readonly accepted: number;
  /** Votes that count: at most one per voter and poll. */
  readonly ballots: number;
  /** Ballots with a 202 that have no stored vote, or only an older one. */
  readonly lost: number;
  /** Ballots whose stored vote is neither their last one with a 202 nor a later one they sent. */
  readonly wrong: number;
  /** Counted votes in excess of ballots. */
  readonly double: number;
  /** Choices whose tally differs from a recount. */
  readonly tallyMismatches: number;
  /** Job numbers in a ledger without a receipt. */
  readonly missingJobs: number;
  /** Sources whose receipts and ledger differ in votes. */
  readonly unexplained: number;
  /** Polls that closed and did not become final in time. */
  readonly notFinal: number;
  /** Final results that changed, or that differ from a recount of the votes. */
  readonly wrongFinal: number;
  /** Responses other than 202 and 503, invalid tokens, and processes that exited without a fault. */
  readonly unexpected: number;
  readonly details: readonly string[];
}

/** Compares the crowd's records with the tables. */
export async function judge(
  db: Db,
  crowd: Crowd,
  shows: Shows,
  notFinal: readonly string[],
): Promise<Verdict> {
  const stored = await storedVotes(db);
  const sources = await auditSources(db);
  const mismatches = await auditTallies(db);
  const details: string[] = [...new Set(crowd.unexpected)];
  let lost = 0;
  let wrong = 0;
  for (const [key, ballot] of crowd.ballots) {
    const fault = faultOf(ballot, stored.get(key));
    if (fault === undefined) continue;
    if (fault === 'lost') lost += 1;
    else wrong += 1;
    if (details.length < 10) {
      const unanswered = ballot.uncertain.map(({ choice }) => choice).join(' ') || 'nothing';
      details.push(
        `${fault}: accepted ${ballot.accepted?.join(' ')}, then unanswered ${unanswered}, stored ${stored.get(key)?.join(' ')}`,
      );
    }
  }
  const counted = sources.reduce((sum, source) => sum + source.counted, 0);
  for (const { source, missing } of sources) {
    if (missing.length > 0) details.push(`${source}: no receipt for ${missing.join(', ')}`);
  }
  const wrongFinals = [...shows.violations, ...(await recountFinals(db, stored))];
  details.push(...wrongFinals.slice(0, 10), ...notFinal.map((poll) => `${poll} is not final`));
  return {
    accepted: crowd.counts.accepted,
    ballots: crowd.ballots.size,
    lost,
    wrong,
    double: counted - stored.size,
    tallyMismatches: mismatches.length,
    missingJobs: sources.reduce((sum, { missingJobs }) => sum + missingJobs, 0),
    unexplained: sources.filter(({ unexplainedVotes }) => unexplainedVotes !== 0).length,
    notFinal: notFinal.length,
    wrongFinal: wrongFinals.length,
    unexpected: crowd.unexpected.length,
    details,
  };
}

/** Returns whether votes were accepted and every count of faults is 0. */
export function isClean({ accepted, ballots: _, details: __, ...faults }: Verdict): boolean {
  return accepted > 0 && Object.values(faults).every((count) => count === 0);
}

/** Compares the stored results of final polls with the votes. @returns descriptions of the differences */
async function recountFinals(db: Db, stored: ReadonlyMap<string, Vote>): Promise<string[]> {
  const { polls } = await readResults(db);
  const recount = Map.groupBy(stored.values(), ([poll, , choice]) => `${poll} ${choice}`);
  return polls
    .filter(({ finalAt }) => finalAt !== null)
    .flatMap(({ poll, choices }) =>
      (choices ?? []).flatMap(({ id, votes }) => {
        const counted = recount.get(`${poll} ${id}`)?.length ?? 0;
        return counted === votes ? [] : [`${poll}: final with ${votes} for ${id}, recounted ${counted}`];
      }),
    );
}

function faultOf({ accepted, uncertain }: Ballot, stored: Vote | undefined): 'lost' | 'wrong' | undefined {
  if (!accepted) return undefined;
  if (!stored || stored[3] < accepted[3]) return 'lost';
  if (stored[3] === accepted[3]) return stored[2] === accepted[2] ? undefined : 'wrong';
  return uncertain.some(({ choice }) => choice === stored[2]) ? undefined : 'wrong';
}
