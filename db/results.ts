import { sql } from 'kysely';
import { parseJobKey } from '#job';
import type { Db } from './client.ts';

/** The counts of a poll in one snapshot. Times are in milliseconds since 1970. */
export interface PollResult {
  readonly poll: string;
  readonly question: string;
  readonly closesAt: number | null;
  readonly choices: readonly { readonly id: string; readonly label: string; readonly votes: number }[];
}

/** All data of the results pages, from one snapshot of the database. */
export interface Results {
  readonly polls: readonly PollResult[];
  /** Totals of the whole system: votes captured by all sources, and votes in all committed jobs. */
  readonly ledger: { readonly accepted: number; readonly committed: number };
  /** Whether, for every source, all jobs up to the last number in its ledger have been committed. */
  readonly settled: boolean;
  /**
   * The oldest of the nodes' last ledger reads, without retired nodes. Null if no source is known, or if the ledger of a
   * node that is not retired has never been read; the current time if all nodes are retired.
   */
  readonly observedAt: number | null;
}

/**
 * Returns all results. The cost grows with the number of choices and sources, not of votes: of the receipts, it reads only
 * those newer than the mirror of the ledgers, a few seconds' worth.
 *
 * Correct under concurrency: one statement reads one snapshot, in which a commit's receipts, votes, tallies and running
 * totals are visible together or not at all. `settled` is exact: from a source's running total it subtracts the jobs
 * above the ledger's last number, which would otherwise make up for missing ones below it.
 */
export async function readResults(db: Db): Promise<Results> {
  const { rows } = await sql<Results>`
    with tally as (
      select poll_id, choice_id, sum(votes)::bigint as votes from tallies group by poll_id, choice_id
    ),
    source as (
      select source,
        -- Before its ledger is mirrored, derive the node from the name of the source, as nodeOf does.
        coalesce(ledgers.node, regexp_replace(source, '[.][^.]*$', '')) as node,
        coalesce(done.jobs, 0) - ahead.jobs >= coalesce(ledgers.accepted_seq, 0) as is_settled,
        coalesce(done.votes, 0) as committed_votes,
        -- The mirror lags, but every committed vote was accepted.
        greatest(ledgers.accepted_votes, done.votes) as accepted_votes,
        ledgers.observed_at
      from ledgers
      full join (
        select source, sum(jobs)::bigint as jobs, sum(votes)::bigint as votes from committed group by source
      ) as done using (source)
      cross join lateral (
        select count(*) as jobs
        from batches
        where batches.source = ledgers.source and batches.seq > ledgers.accepted_seq
      ) as ahead
    ),
    node as (
      -- Without retired nodes, except those whose ledger was read after their retirement.
      select max(source.observed_at) as observed_at
      from source
      left join retired_nodes on retired_nodes.node = source.node
      group by source.node
      having not coalesce(max(retired_at) >= max(source.observed_at), false)
    )
    select
      (
        select coalesce(json_agg(json_build_object(
          'poll', polls.id,
          'question', polls.question,
          'closesAt', floor(extract(epoch from polls.closes_at) * 1000),
          'choices', (
            select json_agg(
              json_build_object('id', choices.id, 'label', choices.label, 'votes', coalesce(tally.votes, 0))
              order by choices.position, choices.id
            )
            from choices
            left join tally on tally.poll_id = choices.poll_id and tally.choice_id = choices.id
            where choices.poll_id = polls.id
          )
        ) order by polls.position), '[]')
        from polls
        where polls.position is not null
      ) as polls,
      (
        select json_build_object(
          'accepted', coalesce(sum(accepted_votes), 0),
          'committed', coalesce(sum(committed_votes), 0)
        )
        from source
      ) as ledger,
      (select coalesce(bool_and(is_settled), true) from source) as settled,
      (
        select case
          -- All nodes are retired, and none of their ledgers has to be read again.
          when count(*) = 0 and exists (select from source) then floor(extract(epoch from now()) * 1000)::bigint
          when bool_and(observed_at is not null) then floor(extract(epoch from min(observed_at)) * 1000)::bigint
        end
        from node
      ) as "observedAt"
  `.execute(db);
  const results = rows[0];
  if (!results) throw new Error('the results query returned no row');
  return results;
}

/** Status of a voter's receipt. It never reveals the choice. */
export type ReceiptStatus = 'counted' | 'pending' | 'unknown';

/**
 * Returns the status of a receipt: `counted` once its job is committed, whatever the outcome of each vote, `pending` while only the ledger contains the job,
 * otherwise `unknown`, which includes the seconds until the ledger is mirrored.
 */
export async function readReceipt(db: Db, receipt: string): Promise<ReceiptStatus> {
  const key = parseJobKey(receipt);
  if (!key) return 'unknown';
  const { rows } = await sql<{ counted: boolean; pending: boolean }>`
    select
      exists (select from batches where source = ${key.source} and seq = ${key.seq}) as counted,
      exists (select from ledgers where source = ${key.source} and accepted_seq >= ${key.seq}) as pending
  `.execute(db);
  if (rows[0]?.counted) return 'counted';
  return rows[0]?.pending ? 'pending' : 'unknown';
}
