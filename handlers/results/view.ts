import type { PollResult } from '#db/results.ts';
import { CAPTURE_MS_MAX, LEDGER_READ_MS_MAX } from '#runtime/capture-limits.ts';
import { CONNECTIONS_CHECK_INTERVAL_MS, REQUEST_TIMEOUT_MS } from '#runtime/server.ts';
import type { Snapshot } from './feed.ts';

/** Longest lead of PostgreSQL's clock, the upper bound of `observedAt`, over the clock of a handler, which closes a poll. */
const CLOCK_SKEW_MS_MAX = 5_000;

/**
 * The longest time from the moment at which a handler found a poll open to the reading of a ledger that includes that vote:
 * the body of a slow client arrives or times out, the vote is written or refused, and the ledger is read.
 */
export const REQUEST_MS_MAX =
  REQUEST_TIMEOUT_MS +
  CONNECTIONS_CHECK_INTERVAL_MS +
  CAPTURE_MS_MAX +
  LEDGER_READ_MS_MAX +
  CLOCK_SKEW_MS_MAX;

/** The results of a poll in the API. The order of the fields is part of the contract. */
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

/** Returns the results of one poll of a snapshot. */
export function resultView(result: PollResult, { results, asOf }: Snapshot): ResultView {
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

/**
 * Returns whether the count of a poll can no longer change:
 *
 * - the poll has closed, and every node's ledger has been read at least `REQUEST_MS_MAX` later. From then on the ledgers
 *   include every job that can hold a vote for it;
 * - all those jobs are committed. A waiting or failed job is a missing number.
 *
 * The reading counts per node, not per source: a ledger has an entry for every process that ever ran on its node and is read
 * as a whole. A node that was not read since the close keeps the results provisional, because its last votes are unknown.
 */
function isFinal({ closesAt }: PollResult, { settled, observedAt }: Snapshot['results']): boolean {
  return settled && closesAt !== null && observedAt !== null && observedAt >= closesAt + REQUEST_MS_MAX;
}
