import type { PollResult } from '../../db/results.ts';
import type { Snapshot } from './feed.ts';

/**
 * The longest that a request for a vote may be under way. A ledger read later than this after a poll has closed holds
 * every vote that the poll will ever have.
 */
export const REQUEST_MS_MAX = 5_000;

/** The results of a poll, as the API tells them. The order of the fields is part of the contract. */
export interface ResultView {
  readonly poll: string;
  readonly question: string;
  readonly total: number;
  readonly choices: readonly { readonly id: string; readonly label: string; readonly votes: number }[];
  readonly status: 'provisional' | 'final';
  /** Of the whole system: votes accepted by all sources, and votes of all committed jobs. */
  readonly ledger: { readonly accepted: number; readonly committed: number };
  readonly asOf: string;
}

/** What the API says of one poll of a snapshot. */
export function viewOf(result: PollResult, { results, asOf }: Snapshot): ResultView {
  const { poll, question, choices } = result;
  return {
    poll,
    question,
    total: choices.reduce((sum, { votes }) => sum + votes, 0),
    choices: choices.map(({ id, label, votes }) => ({ id, label, votes })),
    status: isFinal(result, results) ? 'final' : 'provisional',
    ledger: { accepted: results.ledger.accepted, committed: results.ledger.committed },
    asOf: new Date(asOf).toISOString(),
  };
}

function isFinal({ closesAt }: PollResult, { settled, observedAt }: Snapshot['results']): boolean {
  return settled && closesAt !== null && observedAt !== null && observedAt >= closesAt + REQUEST_MS_MAX;
}
