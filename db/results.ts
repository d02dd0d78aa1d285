import { sql } from 'kysely';
import { parseJobKey } from '#job';
import type { Db } from './client.ts';

/** The counts of a poll at one moment. Times are milliseconds since 1970. */
export interface PollResult {
  readonly poll: string;
  readonly question: string;
  readonly closesAt: number | null;
  readonly choices: readonly { readonly id: string; readonly label: string; readonly votes: number }[];
}

/** Everything that the results pages show, from one snapshot of the database. */
export interface Results {
  readonly polls: readonly PollResult[];
  /** Of the whole system: votes captured by all sources, and votes in all committed jobs. */
  readonly ledger: { readonly accepted: number; readonly committed: number };
  /** Of every known source, all jobs from 1 to the last that its ledger told have been committed. */
  readonly settled: boolean;
  /**
   * Every node's ledger has been read at this time or later, however many of its sources are gone; retired nodes aside.
   * Null while there is no node, or one whose ledger was never read.
   */
  readonly observedAt: number | null;
}

/**
 * Reads all results with one statement. Its cost depends on the number of choices and sources, not of votes: of the
 * receipts it reads only those that the mirror of the ledgers has not heard of, which are the last few seconds' worth.
 *
 * How `settled` is exact: running totals say how many jobs of a source are committed. Those numbered above the last one
 * that the ledger told are taken off, because they would make up for a lower number that is still missing.
 */
export async function readResults(db: Db): Promise<Results> {
  const { rows } = await sql<Results>`
    with tally as (
      select poll_id, choice_id, sum(votes)::bigint as votes from tallies group by poll_id, choice_id
    ),
    source as (
      select source,
        -- A source that no ledger has told of yet: all of its name before its epoch, see nodeOf.
        coalesce(ledgers.node, regexp_replace(source, '[.][^.]*$', '')) as node,
        coalesce(done.jobs, 0) - ahead.jobs >= coalesce(ledgers.accepted_seq, 0) as is_settled,
        coalesce(done.votes, 0) as committed_votes,
        -- The mirror lags behind: a vote that is committed has certainly been accepted.
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
      -- A retired node has nothing left to tell. If its ledger was read after that it has come back.
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
          -- All nodes are retired: whatever they knew has been read.
          when count(*) = 0 and exists (select from source) then floor(extract(epoch from now()) * 1000)::bigint
          when bool_and(observed_at is not null) then floor(extract(epoch from min(observed_at)) * 1000)::bigint
        end
        from node
      ) as "observedAt"
  `.execute(db);
  const results = rows[0];
  if (!results) throw new Error('the results gave no row');
  return results;
}

/** What became of a receipt. It never says what was voted. */
export type ReceiptStatus = 'counted' | 'pending' | 'unknown';

/**
 * Looks a receipt up: `counted` once its job is committed, `pending` while its source is known to have captured that
 * job, `unknown` for all else, also in the seconds before a new job's ledger has been read.
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
