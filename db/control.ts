import { type RawBuilder, sql } from 'kysely';
import type { Db } from './client.ts';
import type { OperatorRequest } from './nodes.ts';
import { IS_SHOWN, lockPolls, recordPollChange } from './polls.ts';

/** Latest time to which a poll can be extended, from now. */
const EXTENSION_MS_MAX = 366 * 24 * 3_600_000;

/**
 * Result of a change of a poll. `unchanged`: it was so already. `unknown`: no poll has this id. `final`: its result is final, and
 * the change would concern it. `invalid`: the change makes no sense for this poll. `reason` is for people.
 */
export type ControlOutcome =
  | { readonly outcome: 'done' }
  | { readonly outcome: 'unchanged' | 'unknown' | 'final' | 'invalid'; readonly reason: string };

/** When a poll closes: at a time in milliseconds since 1970, or so many minutes later than planned. */
export type Extension = { readonly closesAt: number } | { readonly minutes: number };

/** A poll under its lock. Times are in milliseconds since 1970, by the clock of Postgres. */
interface LockedPoll {
  readonly no: number;
  readonly now: number;
  readonly opensAt: number | null;
  readonly closesAt: number | null;
  /** Whether it has closed, or its time to close has passed. */
  readonly isClosed: boolean;
  readonly isFinal: boolean;
  readonly isForgotten: boolean;
  /** Whether the last polls file has withdrawn it. */
  readonly isWithdrawn: boolean;
  readonly results: 'live' | 'closed';
}

/** What to set in the poll's row and how to describe it, or why nothing changes. */
type Decision = { readonly set: RawBuilder<unknown>; readonly what: string } | Refusal;
type Refusal = Exclude<ControlOutcome, { outcome: 'done' }>;

/**
 * A change raises the revision, so that it wins everywhere: handlers leave a state only for a higher revision, nodes keep the
 * highest, and after a restore of Postgres the highest is adopted. Seals of the lower revision no longer count.
 */
const RAISE = sql`revision = revision + 1`;

/** Opens a poll now, also one that has closed. A time to close that has passed is removed, so it stays open until it is closed. */
export function openPoll(db: Db, id: string, request: OperatorRequest): Promise<ControlOutcome> {
  return changePoll(db, id, request, ({ now, opensAt, isClosed, isFinal, isWithdrawn }) => {
    if (isFinal) return FINAL;
    if (isWithdrawn) return WITHDRAWN;
    if (!isClosed && (opensAt === null || opensAt <= now))
      return { outcome: 'unchanged', reason: 'it is open' };
    // Without `opens_at`, no handler waits for its own clock.
    const closesAt = sql`case when closes_at > clock_timestamp() then closes_at end`;
    return { what: 'open', set: sql`opens_at = null, closes_at = ${closesAt}, closed_at = null, ${RAISE}` };
  });
}

/**
 * Closes a poll now, also before it has opened.
 *
 * The new revision begins as closed, so a handler latches and seals it when it reads it, whatever its clock says. Closing the
 * same revision would do that too, but a Postgres restored from a backup would hold the same revision as open and adopt
 * nothing. `closes_at` moves to now, so that a polls file that leaves the time alone does not open the poll again.
 */
export function closePoll(db: Db, id: string, request: OperatorRequest): Promise<ControlOutcome> {
  return changePoll(db, id, request, ({ isClosed, isFinal }) => {
    if (isFinal) return { outcome: 'unchanged', reason: 'its result is final' };
    if (isClosed) return { outcome: 'unchanged', reason: 'it has closed' };
    return {
      what: 'close',
      set: sql`closes_at = clock_timestamp(), closed_at = clock_timestamp(), ${RAISE}`,
    };
  });
}

/**
 * Moves the time at which a poll closes, and opens it again if it has closed. If its time to close has passed, `minutes` count
 * from now.
 */
export function extendPoll(
  db: Db,
  id: string,
  extension: Extension,
  request: OperatorRequest,
): Promise<ControlOutcome> {
  return changePoll(db, id, request, ({ now, opensAt, closesAt, isClosed, isFinal, isWithdrawn }) => {
    if (isFinal) return FINAL;
    if (isWithdrawn) return WITHDRAWN;
    if ('minutes' in extension && closesAt === null)
      return invalid('it has no time to close that could be moved; name one');
    const until =
      'minutes' in extension
        ? Math.max(closesAt ?? now, now) + extension.minutes * 60_000
        : extension.closesAt;
    if (!(until > now)) return invalid('the new time to close has passed; close the poll instead');
    if (!(until <= now + EXTENSION_MS_MAX)) return invalid('the new time to close is over a year away');
    if (opensAt !== null && opensAt >= until) return invalid('it would close before it opens');
    if (until === closesAt && !isClosed) return { outcome: 'unchanged', reason: 'it closes at that time' };
    const what = `extend to ${new Date(until).toISOString()}`;
    return { what, set: sql`closes_at = ${new Date(until)}, closed_at = null, ${RAISE}` };
  });
}

/** Embargoes the result of a poll until it is final (`closed`), or shows it (`live`). */
export function setEmbargo(
  db: Db,
  id: string,
  results: 'live' | 'closed',
  request: OperatorRequest,
): Promise<ControlOutcome> {
  return changePoll(db, id, request, (poll) => {
    if (poll.isFinal) return { outcome: 'final', reason: 'its result is final and shown' };
    if (poll.results === results)
      return { outcome: 'unchanged', reason: `its result is ${results === 'live' ? 'shown' : 'embargoed'}` };
    return { what: `embargo ${results}`, set: sql`results = ${results}, ${RAISE}` };
  });
}

/**
 * Requests that workers delete the votes of a final poll and what was rejected for it; a hidden poll disappears with its result.
 * Tallies, result and receipts stay. Raises no revision, because nothing changes for handlers: the nodes keep the mark for a
 * Postgres restored from a backup.
 */
export function forgetPoll(db: Db, id: string, request: OperatorRequest): Promise<ControlOutcome> {
  return changePoll(db, id, request, ({ isFinal, isForgotten }) => {
    if (!isFinal) return invalid('its result is not final, and its votes are needed until then');
    if (isForgotten) return { outcome: 'unchanged', reason: 'it is forgotten' };
    return { what: 'forget', set: sql`forgotten_at = clock_timestamp()` };
  });
}

const invalid = (reason: string): Refusal => ({ outcome: 'invalid', reason });
const FINAL: Refusal = { outcome: 'final', reason: 'its result is final, so it cannot be opened again' };
const WITHDRAWN = invalid('it is not in the polls file; apply a file that has it');

/**
 * Changes a poll, and records who did it and why in the same transaction.
 *
 * Correct under concurrency: polls files, adoptions and other changes wait for the same advisory lock, and finalization for the
 * poll's row. So a decision is made on the latest state, and a poll that becomes final first stays as it is.
 */
async function changePoll(
  db: Db,
  id: string,
  request: OperatorRequest,
  decide: (poll: LockedPoll) => Decision,
): Promise<ControlOutcome> {
  return db.transaction().execute(async (trx) => {
    await lockPolls(trx);
    // The clock is read after the lock: waiting for it may have taken a while.
    const { rows } = await sql<LockedPoll>`
      select no, results, final_at is not null as "isFinal", forgotten_at is not null as "isForgotten",
        position is null as "isWithdrawn",
        floor(extract(epoch from clock_timestamp()) * 1000)::bigint as now,
        floor(extract(epoch from opens_at) * 1000)::bigint as "opensAt",
        floor(extract(epoch from closes_at) * 1000)::bigint as "closesAt",
        closed_at is not null or coalesce(closes_at <= clock_timestamp(), false) as "isClosed"
      from polls
      where id = ${id} and ${IS_SHOWN}
      for update
    `.execute(trx);
    const [poll] = rows;
    if (!poll) return { outcome: 'unknown', reason: 'no poll has this id' };
    const decision = decide(poll);
    if ('outcome' in decision) return decision;
    await sql`update polls set ${decision.set} where no = ${poll.no}`.execute(trx);
    await recordPollChange(trx, { ...request, what: decision.what, poll: id });
    return { outcome: 'done' };
  });
}
