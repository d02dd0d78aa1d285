import { sql } from 'kysely';
import { parseJobKey } from '#job';
import type { Db } from './client.ts';
import { IS_SHOWN } from './polls.ts';

/** The counts of a poll in one snapshot. */
export interface PollResult {
  readonly poll: string;
  readonly question: string;
  /** Null while the result is embargoed, so that no count of it leaves the database. */
  readonly choices: readonly { readonly id: string; readonly label: string; readonly votes: number }[] | null;
  /** A rehearsal, which no page lists. */
  readonly isHidden: boolean;
  readonly presentation: Presentation;
  /** When the result became final, in milliseconds since 1970; null while it is provisional. A final result never changes. */
  readonly finalAt: number | null;
  /** Nodes whose uncounted votes an operator declared lost before the result became final. */
  readonly writtenOff: readonly { readonly name: string; readonly reason: string }[];
  /** Jobs that an operator declared lost before the result became final, by node and reason. */
  readonly writtenOffJobs: readonly WrittenOffJobs[];
}

/** Jobs of a node that were written off for one reason, by their keys. The votes in them may have been for any poll. */
export interface WrittenOffJobs {
  readonly name: string;
  readonly reason: string;
  readonly jobs: readonly string[];
}

/** How the pages of a poll look. */
interface Presentation {
  readonly lang?: string;
  readonly colours?: { readonly light: string; readonly dark: string };
}

/** All data of the results pages, from one snapshot of the database. */
export interface Results {
  readonly polls: readonly PollResult[];
  /** Totals of the whole system: votes captured by all sources, and votes in all committed jobs. */
  readonly ledger: { readonly accepted: number; readonly committed: number };
}

/**
 * Returns all results that are not embargoed; those of final polls as stored when they became final. The cost grows with the
 * number of choices and sources, not of votes: of the receipts, it reads only those that are not folded yet, a few seconds' worth.
 *
 * Correct under concurrency: one statement reads one snapshot, in which a commit's receipts, votes and tallies are visible
 * together or not at all.
 */
export async function readResults(db: Db): Promise<Results> {
  const { rows } = await sql<Results>`
    with tally as (
      select poll_no, choice_no, sum(votes)::bigint as votes from tallies group by poll_no, choice_no
    ),
    source as (
      select folded_votes + coalesce(recent.votes, 0) as committed,
        -- The mirror lags, but every committed vote was accepted.
        greatest(accepted_votes, folded_votes + coalesce(recent.votes, 0)) as accepted
      from sources
      left join (select source, sum(votes) as votes from receipts group by source) as recent using (source)
    )
    select
      (
        select coalesce(json_agg(json_build_object(
          'poll', polls.id,
          'question', polls.question,
          'isHidden', is_hidden,
          'presentation', presentation,
          'finalAt', floor(extract(epoch from final_at) * 1000),
          'writtenOff', coalesce(result -> 'writtenOff', '[]'),
          'writtenOffJobs', coalesce(result -> 'writtenOffJobs', '[]'),
          'choices', case when results = 'live' or final_at is not null then coalesce(result -> 'choices', (
            select to_jsonb(json_agg(
              json_build_object('id', choices.id, 'label', choices.label, 'votes', coalesce(tally.votes, 0))
              order by choices.position nulls last, choices.no
            ))
            from choices
            left join tally on tally.poll_no = choices.poll_no and tally.choice_no = choices.no
            where choices.poll_no = polls.no
          )) end
        ) order by polls.position), '[]')
        from polls
        where polls.position is not null and ${IS_SHOWN}
      ) as polls,
      (
        select json_build_object('accepted', coalesce(sum(accepted), 0), 'committed', coalesce(sum(committed), 0))
        from source
      ) as ledger
  `.execute(db);
  const results = rows[0];
  if (!results) throw new Error('the results query returned no row');
  return results;
}

/** Status of a voter's receipt. It never reveals the choice. */
export type ReceiptStatus = 'counted' | 'pending' | 'written_off' | 'unknown';

/**
 * Returns the status of a receipt: `counted` once its job is committed, whatever the outcome of each vote, `pending` while
 * only the ledger contains the job, `written_off` once an operator has declared it lost, otherwise `unknown`, which includes the
 * seconds until the ledger is mirrored.
 */
export async function readReceipt(db: Db, receipt: string): Promise<ReceiptStatus> {
  const key = parseJobKey(receipt);
  if (!key) return 'unknown';
  const { rows } = await sql<{ counted: boolean; pending: boolean; writtenOff: boolean }>`
    select
      folded_seq >= ${key.seq}
        or exists (select from receipts r where r.source = sources.source and r.seq = ${key.seq}) as counted,
      accepted_seq >= ${key.seq} as pending,
      exists (
        select from written_off_jobs w where w.source = sources.source and w.seq = ${key.seq}
      ) as "writtenOff"
    from sources
    where source = ${key.source}
  `.execute(db);
  if (rows[0]?.writtenOff) return 'written_off';
  if (rows[0]?.counted) return 'counted';
  return rows[0]?.pending ? 'pending' : 'unknown';
}

/** The proof of a final result, stored when it became final; it never changes. */
export interface Evidence extends StoredResult {
  readonly poll: string;
  /** The revision of the poll that was sealed. */
  readonly revision: number;
  /** Milliseconds since 1970. */
  readonly finalAt: number;
}

/** What `finalizePoll` stores. */
interface StoredResult {
  readonly choices: NonNullable<PollResult['choices']>;
  /** Each source that had to seal the poll, and its last job: its fence if it was fenced, else its seal. */
  readonly sources: Readonly<Record<string, number>>;
  readonly writtenOff: readonly { readonly id: string; readonly name: string; readonly reason: string }[];
  readonly writtenOffJobs: readonly (WrittenOffJobs & { readonly id: string })[];
}

/** Returns the evidence of a poll's final result: `not final` while it has none, `undefined` for a poll that is not listed. */
export async function readEvidence(db: Db, poll: string): Promise<Evidence | 'not final' | undefined> {
  const { rows } = await sql<{ revision: number; finalAt: number | null; result: StoredResult }>`
    select revision, floor(extract(epoch from final_at) * 1000)::bigint as "finalAt", result
    from polls
    where id = ${poll} and position is not null and ${IS_SHOWN}
  `.execute(db);
  const [row] = rows;
  if (!row) return undefined;
  const { revision, finalAt, result } = row;
  return finalAt === null ? 'not final' : { poll, revision, finalAt, ...result };
}
