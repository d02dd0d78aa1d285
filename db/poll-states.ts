import { sql } from 'kysely';
import type { Db } from './client.ts';
import { IS_SHOWN } from './polls.ts';

/** What an operator needs of a poll. Times are in milliseconds since 1970, `null` where there is none. */
export interface PollState {
  readonly id: string;
  readonly question: string;
  readonly revision: number;
  readonly opensAt: number | null;
  readonly closesAt: number | null;
  /** When this revision closed. */
  readonly closedAt: number | null;
  readonly finalAt: number | null;
  readonly forgottenAt: number | null;
  readonly results: 'live' | 'closed';
  readonly isHidden: boolean;
  /** Whether the last polls file contains it. */
  readonly isListed: boolean;
  /** What changed it last: an operator, a polls file or a rule. */
  readonly change: PollChange | null;
}

/** An entry of `operator_actions`. */
interface PollChange {
  readonly at: number;
  readonly who: string;
  readonly what: string;
  readonly why: string;
}

/** Returns all polls in their order, except hidden ones that are forgotten. */
export async function readPollStates(db: Db): Promise<PollState[]> {
  const { rows } = await sql<PollState>`
    with change as (
      select distinct on (poll) poll,
        json_build_object('at', floor(extract(epoch from at) * 1000), 'who', who, 'what', what, 'why', why) as change
      from operator_actions
      where poll is not null
      order by poll, at desc
    )
    select id, question, revision, results, is_hidden as "isHidden", position is not null as "isListed",
      floor(extract(epoch from opens_at) * 1000)::bigint as "opensAt",
      floor(extract(epoch from closes_at) * 1000)::bigint as "closesAt",
      floor(extract(epoch from closed_at) * 1000)::bigint as "closedAt",
      floor(extract(epoch from final_at) * 1000)::bigint as "finalAt",
      floor(extract(epoch from forgotten_at) * 1000)::bigint as "forgottenAt",
      change.change
    from polls
    left join change on change.poll = polls.id
    where ${IS_SHOWN}
    order by position nulls last, id
  `.execute(db);
  return rows;
}
