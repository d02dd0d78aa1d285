import { sql, type Transaction } from 'kysely';
import type { Db } from './client.ts';
import { storeImages } from './images.ts';
import type { Database } from './schema.ts';

/** Condition on `polls`: false for a hidden poll that is forgotten. Its row only keeps its id from being taken again. */
export const IS_SHOWN = sql`not (is_hidden and forgotten_at is not null)`;

/** A poll as the polls file defines it. Times are in milliseconds since 1970. */
interface Poll {
  readonly id: string;
  readonly question: string;
  readonly choices: readonly {
    readonly id: string;
    readonly label: string;
    readonly image?: string | undefined;
  }[];
  readonly opensAt?: number | undefined;
  readonly closesAt?: number | undefined;
  readonly results?: 'live' | 'closed' | undefined;
  readonly hidden?: boolean | undefined;
  readonly retainVotesDays?: number | undefined;
  readonly lang?: string | undefined;
  readonly texts?: Readonly<Record<string, string | undefined>> | undefined;
  readonly colours?: { readonly light: string; readonly dark: string } | undefined;
}

/** A polls file. Its version orders files: only a higher one changes polls. */
interface PollsFile {
  readonly version: number;
  readonly polls: readonly Poll[];
  /** Those that its choices name. */
  readonly images?: ReadonlyMap<string, Uint8Array>;
}

/** A poll and its state, see `StoredPoll` in `stack/runtime/polls.ts`. */
interface StoredPoll extends Poll {
  readonly revision: number;
  readonly isClosed: boolean;
  readonly position: number | null;
  readonly isForgotten?: boolean | undefined;
}

/**
 * Result of `applyPollsFile`. `older`: a higher version has been applied. `conflict`: this version has been applied with
 * other content. `refused`: what it changes must not change, with every fault. None of these changes anything.
 */
export type PollsFileOutcome =
  | 'applied'
  | 'unchanged'
  | 'older'
  | 'conflict'
  | { readonly refused: readonly string[] };

type Trx = Transaction<Database>;

/** A poll that a polls file adds or changes. `before` is its entry in the last file, `stored` what is true now. */
interface FileChange {
  readonly after: Poll;
  readonly position: number;
  readonly before: Poll | undefined;
  readonly stored: StoredPoll | undefined;
}

/**
 * Applies a polls file. It changes only what differs from the file applied last, field by field, so what an operator changed
 * since stays unless this file changes the same field. A poll that is missing is withdrawn: closed, and shown no
 * more. Final polls do not change; a file that would change when one opens or closes is refused, and so is one that removes a
 * choice with votes.
 */
export async function applyPollsFile(db: Db, file: PollsFile): Promise<PollsFileOutcome> {
  return db.transaction().execute(async (trx) => {
    await lockPolls(trx);
    const last = await trx
      .selectFrom('polls_files')
      .selectAll()
      .orderBy('version', 'desc')
      .limit(1)
      .executeTakeFirst();
    const content = JSON.stringify(file.polls);
    if (last && last.version > file.version) return 'older';
    const previous = (last?.content ?? []) as readonly Poll[];
    const isSame = last !== undefined && isEqual(previous, file.polls);
    if (last?.version === file.version) return isSame ? 'unchanged' : 'conflict';

    const changes = await changesOf(trx, previous, file.polls);
    const refused = await faultsOf(trx, changes);
    if (refused.length > 0) return { refused };
    await trx
      .insertInto('polls_files')
      .values({ version: file.version, content: sql`${content}::jsonb` })
      .execute();
    const request = { who: 'polls file', why: last ? `differs from version ${last.version}` : 'first file' };
    const what = `apply version ${file.version}`;
    for (const { after, before, stored, position } of changes) {
      const isChanged = await putPoll(trx, merge(after, before, stored), position, {
        isReopened: before === undefined || before.closesAt !== after.closesAt,
      });
      if (isChanged) await recordPollChange(trx, { ...request, what, poll: after.id });
    }
    const kept = new Set(file.polls.map(({ id }) => id));
    for (const { id } of previous.filter((poll) => !kept.has(poll.id))) {
      if (await withdrawPoll(trx, id)) await recordPollChange(trx, { ...request, what, poll: id });
    }
    await storeImages(trx, file.images ?? new Map());
    return 'applied';
  });
}

/** Returns what a file changes. Locks the rows, so that no poll becomes final between the check and the change. */
async function changesOf(trx: Trx, previous: readonly Poll[], polls: readonly Poll[]): Promise<FileChange[]> {
  const before = new Map(previous.map((poll, position) => [poll.id, { poll, position }]));
  const changed = polls
    .map((after, position) => ({ after, position, old: before.get(after.id) }))
    .filter(({ after, position, old }) => old?.position !== position || !isEqual(old.poll, after));
  const ids = changed.map(({ after }) => after.id);
  await sql`select no from polls where id = any (${ids}::text[]) order by no for update`.execute(trx);
  const stored = new Map((await readStoredPolls(trx)).map((poll) => [poll.id, poll]));
  return changed.map(({ after, position, old }) => ({
    after,
    position,
    before: old?.poll,
    stored: stored.get(after.id),
  }));
}

/** Returns every reason to refuse a file, as sentences. */
async function faultsOf(trx: Trx, changes: readonly FileChange[]): Promise<string[]> {
  const { rows } = await sql<{ poll: string; choice: string; isFinal: boolean; hasVotes: boolean }>`
    select polls.id as poll, choices.id as choice, final_at is not null as "isFinal",
      (
        select coalesce(sum(votes), 0) > 0 from tallies
        where tallies.poll_no = choices.poll_no and choice_no = choices.no
      ) as "hasVotes"
    from polls
    join choices on choices.poll_no = polls.no
    where polls.id = any (${changes.map(({ after }) => after.id)}::text[]) and choices.position is not null
    order by polls.id, choices.no
  `.execute(trx);
  const choicesOf = Map.groupBy(rows, ({ poll }) => poll);
  return changes.flatMap(({ after, before }) => {
    const choices = choicesOf.get(after.id) ?? [];
    const offered = new Set(after.choices.map(({ id }) => id));
    const isMoved = before?.closesAt !== after.closesAt || before?.opensAt !== after.opensAt;
    return [
      ...(choices[0]?.isFinal && before && isMoved
        ? [`poll ${after.id} is final, so its opensAt and closesAt must stay as in the last file`]
        : []),
      ...choices
        .filter(({ choice, hasVotes }) => hasVotes && !offered.has(choice))
        .map(({ choice }) => `choice ${choice} of poll ${after.id} has votes and must stay`),
    ];
  });
}

/** Returns the stored poll with the fields that differ between the two files; of a poll that was in no file before, all. */
function merge(after: Poll, before: Poll | undefined, stored: StoredPoll | undefined): Poll {
  if (!before || !stored) return after;
  const names = Object.keys({ ...before, ...after }) as (keyof Poll)[];
  const changed = names.filter((name) => !isEqual(before[name], after[name]));
  return { ...stored, ...Object.fromEntries(changed.map((name) => [name, after[name]])) };
}

/**
 * Adds a hidden poll that is in no polls file, for a rehearsal. Files leave it alone, because they withdraw only what an earlier
 * one had. It closes at `closesAt` at the latest, so that one that is left behind does not stay open.
 *
 * @returns false when the id is taken
 */
export async function addHiddenPoll(
  db: Db,
  poll: Pick<Poll, 'id' | 'question' | 'choices'> & { readonly closesAt: number },
  request: { readonly who: string; readonly why: string },
): Promise<boolean> {
  return db.transaction().execute(async (trx) => {
    await lockPolls(trx);
    if (await lockPoll(trx, poll.id)) return false;
    const { last } = await trx
      .selectFrom('polls')
      .select((eb) => eb.fn.max('position').as('last'))
      .executeTakeFirstOrThrow();
    // A poll without a position counts as withdrawn.
    await putPoll(trx, { ...poll, hidden: true }, (last ?? -1) + 1, { isReopened: true });
    await recordPollChange(trx, { ...request, what: 'add', poll: poll.id });
    return true;
  });
}

/** Closes the polls whose time has come, by the clock of Postgres. @returns their ids */
export async function closeDuePolls(db: Db): Promise<string[]> {
  const { rows } = await sql<{ id: string }>`
    with due as (
      select no from polls where closes_at <= now() and closed_at is null order by no for update
    )
    update polls set closed_at = now() from due where polls.no = due.no and closed_at is null returning id
  `.execute(db);
  return rows.map(({ id }) => id);
}

/** Returns all polls as they are stored in the nodes. */
export async function readStoredPolls(db: Db): Promise<StoredPoll[]> {
  const { rows } = await sql<
    Omit<StoredPoll, 'opensAt' | 'closesAt' | 'retainVotesDays' | 'isForgotten'> & {
      isForgotten: boolean;
      opensMs: number | null;
      closesMs: number | null;
      retainVotesDays: number | null;
      presentation: Pick<Poll, 'lang' | 'texts' | 'colours'>;
    }
  >`
    select id, question, revision, closed_at is not null as "isClosed", position,
      floor(extract(epoch from opens_at) * 1000)::bigint as "opensMs",
      floor(extract(epoch from closes_at) * 1000)::bigint as "closesMs",
      results, is_hidden as hidden, retain_votes_days as "retainVotesDays", presentation,
      forgotten_at is not null as "isForgotten",
      (
        select coalesce(
          json_agg(
            json_strip_nulls(json_build_object('id', choices.id, 'label', label, 'image', image))
            order by position, choices.no
          ),
          '[]'
        )
        from choices
        where poll_no = polls.no and position is not null
      ) as choices
    from polls
    order by position nulls last, id
  `.execute(db);
  return rows.map(({ opensMs, closesMs, retainVotesDays, presentation, isForgotten, ...poll }) => ({
    ...poll,
    ...presentation,
    ...(isForgotten && { isForgotten }),
    ...(retainVotesDays !== null && { retainVotesDays }),
    ...(opensMs !== null && { opensAt: opensMs }),
    ...(closesMs !== null && { closesAt: closesMs }),
  }));
}

/**
 * Stores polls found in a node with a higher revision than here, or unknown here: Postgres was restored from a backup. Final
 * polls do not change, but any poll that a node holds as forgotten is forgotten again.
 *
 * @returns the ids of the polls adopted
 */
export async function adoptPolls(db: Db, polls: readonly StoredPoll[]): Promise<string[]> {
  if (polls.length === 0) return [];
  return db.transaction().execute(async (trx) => {
    await lockPolls(trx);
    const adopted: string[] = [];
    for (const poll of polls) {
      const isAdopted = await adoptRevision(trx, poll);
      const isForgotten = poll.isForgotten === true && (await adoptForgotten(trx, poll.id));
      if (!isAdopted && !isForgotten) continue;
      const what = isAdopted ? `adopt revision ${poll.revision}` : 'forget';
      const request = { who: 'worker', why: 'found in a node after Postgres was restored' };
      await recordPollChange(trx, { ...request, what, poll: poll.id });
      adopted.push(poll.id);
    }
    return adopted;
  });
}

async function adoptRevision(trx: Trx, poll: StoredPoll): Promise<boolean> {
  const stored = await lockPoll(trx, poll.id);
  if (stored && (stored.final_at || stored.revision >= poll.revision)) return false;
  await putPoll(trx, poll, poll.position, { isReopened: !poll.isClosed });
  await trx
    .updateTable('polls')
    .set({ revision: poll.revision, closed_at: poll.isClosed ? sql`now()` : null })
    .where('id', '=', poll.id)
    .execute();
  return true;
}

async function adoptForgotten(trx: Trx, id: string): Promise<boolean> {
  const { numUpdatedRows } = await trx
    .updateTable('polls')
    .set({ forgotten_at: sql`now()` })
    .where('id', '=', id)
    .where('forgotten_at', 'is', null)
    .executeTakeFirst();
  return numUpdatedRows > 0n;
}

/** Serializes changes of polls: workers that start together could lock the same rows in different orders. */
export async function lockPolls(trx: Trx): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtext('turnout polls'))`.execute(trx);
}

function lockPoll(trx: Trx, id: string) {
  return trx
    .selectFrom('polls')
    .select(['no', 'revision', 'final_at'])
    .where('id', '=', id)
    .forUpdate()
    .executeTakeFirst();
}

/** Records a change of a poll in the transaction that makes it. */
export async function recordPollChange(
  trx: Trx,
  change: { readonly who: string; readonly what: string; readonly why: string; readonly poll: string },
): Promise<void> {
  await trx.insertInto('operator_actions').values(change).execute();
}

/**
 * Inserts a poll, or changes it unless it is final: a new revision. A poll that has closed stays closed unless `isReopened`, and
 * one whose time to close has passed begins as closed: handlers must not depend on their clocks.
 *
 * @returns whether it was inserted or changed
 */
async function putPoll(
  trx: Trx,
  poll: Poll,
  position: number | null,
  { isReopened }: { readonly isReopened: boolean },
): Promise<boolean> {
  const stored = await lockPoll(trx, poll.id);
  if (stored?.final_at) return false;
  const closesAt = poll.closesAt === undefined ? null : new Date(poll.closesAt);
  const values = {
    question: poll.question,
    opens_at: poll.opensAt === undefined ? null : new Date(poll.opensAt),
    closes_at: closesAt,
    position,
    results: poll.results ?? 'live',
    is_hidden: poll.hidden ?? false,
    retain_votes_days: poll.retainVotesDays ?? null,
    presentation: sql`${JSON.stringify({ lang: poll.lang, texts: poll.texts, colours: poll.colours })}::jsonb`,
  };
  const closedAt = sql<Date | null>`case
    when ${closesAt}::timestamptz <= now() then coalesce(closed_at, now())
    when ${isReopened} then null
    else closed_at
  end`;
  const { no } = stored
    ? await trx
        .updateTable('polls')
        .set({ ...values, revision: sql`revision + 1`, closed_at: closedAt })
        .where('no', '=', stored.no)
        .returning('no')
        .executeTakeFirstOrThrow()
    : await trx
        .insertInto('polls')
        .values({ ...values, id: poll.id })
        .returning('no')
        .executeTakeFirstOrThrow();
  await putChoices(trx, no, poll.choices);
  return true;
}

/** A choice that is no longer offered stays: votes for it may still be on their way. Its number is never used again. */
async function putChoices(trx: Trx, pollNo: number, choices: Poll['choices']): Promise<void> {
  await trx.updateTable('choices').set({ position: null }).where('poll_no', '=', pollNo).execute();
  await sql`
    insert into choices (poll_no, no, id, label, image, position)
    select ${pollNo}::smallint,
      (select coalesce(max(no), 0) from choices where poll_no = ${pollNo}) + position, id, label, image, position - 1
    from unnest(
      ${choices.map(({ id }) => id)}::text[], ${choices.map(({ label }) => label)}::text[],
      ${choices.map(({ image }) => image ?? null)}::text[]
    )
      with ordinality as offered (id, label, image, position)
    on conflict (poll_no, id) do update
    set label = excluded.label, image = excluded.image, position = excluded.position
  `.execute(trx);
}

/** Returns whether the poll has changed. */
async function withdrawPoll(trx: Trx, id: string): Promise<boolean> {
  await trx.selectFrom('polls').select('no').where('id', '=', id).forUpdate().execute();
  const { numUpdatedRows } = await trx
    .updateTable('polls')
    .set({ position: null, closed_at: sql`coalesce(closed_at, now())`, revision: sql`revision + 1` })
    .where('id', '=', id)
    .where('final_at', 'is', null)
    .executeTakeFirst();
  return numUpdatedRows > 0n;
}

function isEqual(a: unknown, b: unknown): boolean {
  return canonical(a) === canonical(b);
}

/** jsonb does not keep the order of keys, and JSON drops absent ones. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    inner !== null && typeof inner === 'object' && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}
