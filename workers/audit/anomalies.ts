import {
  type MintBursts,
  readMintBursts,
  readOnePollVoters,
  readVoteTimes,
  type VoteTimes,
} from '#db/anomalies.ts';
import { auditSources, type SourceAudit } from '#db/audit.ts';
import type { Db } from '#db/client.ts';
import { isStatementTimeout } from '#db/errors.ts';
import { readNodes } from '#db/nodes.ts';
import { DeadlineError } from '#runtime/deadline.ts';

/** How the votes of a poll came in. */
export interface PollAnomalies {
  readonly poll: string;
  readonly times: VoteTimes;
  readonly bursts: MintBursts;
  /** Voters who voted in no other poll; null while there is one poll. */
  readonly onePollVoters: number | null;
}

/** Votes by outcome, as in an audit. */
type Totals = Pick<SourceAudit, 'votes' | 'counted' | 'changed' | 'superseded' | 'rejected'>;

/** How votes came in. It has numbers and no verdict. */
export interface AnomalyReport {
  /** Time of its start, in milliseconds since 1970. */
  readonly asOf: number;
  readonly polls: readonly PollAnomalies[];
  /** Committed votes of all polls. */
  readonly totals: Totals;
  /** Accepted votes of all polls, by node. */
  readonly nodes: readonly { readonly id: string; readonly name: string; readonly accepted: number }[];
}

export interface AnomalyParts {
  readonly db: Db;
  /** The only poll to report; all of them by default. */
  readonly poll?: string | undefined;
  /** Time limit of the report. Each statement may use what is left of it. */
  readonly msMax: number;
  /** Runs a part that takes long, with its progress shown. */
  readonly step?: <T>(label: string, work: () => Promise<T>) => Promise<T>;
}

/**
 * Reads all votes of the polls, and the totals of all sources. The parts come from different moments, so their sums differ while
 * votes arrive. A poll that does not exist is left out.
 *
 * @throws DeadlineError after `msMax`, or the error of Postgres
 */
export async function collectAnomalies(parts: AnomalyParts): Promise<AnomalyReport> {
  try {
    return await collect(parts);
  } catch (error) {
    if (isStatementTimeout(error)) throw new DeadlineError(`the report took over ${parts.msMax} ms`);
    throw error;
  }
}

async function collect({
  db,
  poll,
  msMax,
  step = (_label, work) => work(),
}: AnomalyParts): Promise<AnomalyReport> {
  const asOf = Date.now();
  const startedAt = performance.now();
  const msLeft = (): number => msMax - (performance.now() - startedAt);
  const known = await db.selectFrom('polls').select(['no', 'id']).orderBy('position').orderBy('no').execute();
  const audits = await auditSources(db, 0);
  const nodes = await readNodes(db);
  const chosen = known.filter(({ id }) => poll === undefined || id === poll);
  const polls: Omit<PollAnomalies, 'onePollVoters'>[] = [];
  for (const { no, id } of chosen) {
    const times = await step(`Reading the votes of ${id}`, () => readVoteTimes(db, no, msLeft()));
    const bursts = await step(`Reading the voters of ${id}`, () => readMintBursts(db, no, msLeft()));
    polls.push({ poll: id, times, bursts });
  }
  const onePollVoters =
    known.length > 1 && chosen.length > 0
      ? await step('Comparing the voters of all polls', () => readOnePollVoters(db, msLeft()))
      : undefined;
  return {
    asOf,
    polls: polls.map((one, i) => ({
      ...one,
      onePollVoters: onePollVoters ? (onePollVoters.get(chosen[i]?.no ?? 0) ?? 0) : null,
    })),
    totals: totalsOf(audits),
    nodes: nodes.map(({ id, name }) => ({
      id,
      name,
      accepted: sum(
        audits.filter(({ node }) => node === id),
        'acceptedVotes',
      ),
    })),
  };
}

function totalsOf(audits: readonly SourceAudit[]): Totals {
  return {
    votes: sum(audits, 'votes'),
    counted: sum(audits, 'counted'),
    changed: sum(audits, 'changed'),
    superseded: sum(audits, 'superseded'),
    rejected: sum(audits, 'rejected'),
  };
}

function sum(audits: readonly SourceAudit[], field: keyof Totals | 'acceptedVotes'): number {
  return audits.reduce((total, audit) => total + audit[field], 0);
}
