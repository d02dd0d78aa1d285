import type { PollResult } from '#db/results.ts';
import type { Snapshot } from './feed.ts';

/**
 * The longest from the moment at which a handler found a poll open to the ledger that a worker reads with that vote in
 * it: 11 s until a slow client's body is there or given up, 2 s until the vote is on disk or refused, 2 s for the reading.
 * The rest is for clocks that differ: the handler's says when a poll closes, and that of Postgres when a ledger was read.
 */
export const REQUEST_MS_MAX = 20_000;

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

/**
 * Whether the count of a poll can no longer change:
 *
 * - the poll has closed, and every node's ledger has been read once since, later than any vote for it can have been
 *   under way. From then on the ledgers hold the number of every job that can hold such a vote;
 * - all those jobs are committed. A job that waits, or that has failed, is a number that is missing.
 *
 * What counts is the node and not the source: a ledger keeps a line for every process that ever ran on its node and is
 * always read as a whole, so a process that has ended needs no reading of its own, and one whose line the node no longer
 * has, has nothing there that could still come. A node that has not been read since the close keeps the results
 * provisional however settled it looks, because nobody knows what it accepted last.
 */
function isFinal({ closesAt }: PollResult, { settled, observedAt }: Snapshot['results']): boolean {
  return settled && closesAt !== null && observedAt !== null && observedAt >= closesAt + REQUEST_MS_MAX;
}
