import { sql, type Transaction } from 'kysely';
import type { Db } from './client.ts';
import type { Database } from './schema.ts';

/** A poll as the polls file defines it. Times are in milliseconds since 1970. */
interface Poll {
  readonly id: string;
  readonly question: string;
  readonly choices: readonly { readonly id: string; readonly label: string }[];
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
}

/** A poll and its state, see `StoredPoll` in `stack/runtime/polls.ts`. */
interface StoredPoll extends Poll {
  readonly revision: number;
  readonly isClosed: boolean;
  readonly position: number | null;
}

/**
 * Result of `applyPollsFile`. `older`: a higher version has been applied. `conflict`: this version has been applied with
 * other content. Neither changes anything.
 */
export type PollsFileOutcome = 'applied' | 'unchanged' | 'older' | 'conflict';

type Trx = Transaction<Database>;

/**
 * Applies a polls file. It changes only what differs from the file applied last, so what an operator changed since stays
 * unless this file changes it too. A poll that is missing is withdrawn: closed, and shown no more. Final polls do not change.
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
    await trx
      .insertInto('polls_files')
      .values({ version: file.version, content: sql`${content}::jsonb` })
      .execute();

    const before = new Map(previous.map((poll, position) => [poll.id, { poll, position }]));
    for (const [position, poll] of file.polls.entries()) {
      const old = before.get(poll.id);
      before.delete(poll.id);
      if (!old || old.position !== position || !isEqual(old.poll, poll)) {
        await putPoll(trx, poll, position);
      }
    }
    for (const id of before.keys()) await withdrawPoll(trx, id);
    return 'applied';
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
    Omit<StoredPoll, 'opensAt' | 'closesAt' | 'retainVotesDays'> & {
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
      (
        select coalesce(json_agg(json_build_object('id', choices.id, 'label', label) order by position, choices.no), '[]')
        from choices
        where poll_no = polls.no and position is not null
      ) as choices
    from polls
    order by position nulls last, id
  `.execute(db);
  return rows.map(({ opensMs, closesMs, retainVotesDays, presentation, ...poll }) => ({
    ...poll,
    ...presentation,
    ...(retainVotesDays !== null && { retainVotesDays }),
    ...(opensMs !== null && { opensAt: opensMs }),
    ...(closesMs !== null && { closesAt: closesMs }),
  }));
}

/**
 * Stores polls found in a node with a higher revision than here, or unknown here: Postgres was restored from a backup.
 * Final polls do not change.
 *
 * @returns the ids of the polls adopted
 */
export async function adoptPolls(db: Db, polls: readonly StoredPoll[]): Promise<string[]> {
  if (polls.length === 0) return [];
  return db.transaction().execute(async (trx) => {
    await lockPolls(trx);
    const adopted: string[] = [];
    for (const poll of polls) {
      const stored = await trx
        .selectFrom('polls')
        .select(['revision', 'closed_at', 'final_at'])
        .where('id', '=', poll.id)
        .forUpdate()
        .executeTakeFirst();
      if (stored && (stored.final_at || stored.revision >= poll.revision)) continue;
      await putPoll(trx, poll, poll.position);
      await trx
        .updateTable('polls')
        .set({ revision: poll.revision, closed_at: poll.isClosed ? sql`now()` : null })
        .where('id', '=', poll.id)
        .execute();
      adopted.push(poll.id);
    }
    return adopted;
  });
}

/** Serializes changes of polls: workers that start together could lock the same rows in different orders. */
async function lockPolls(trx: Trx): Promise<void> {
  await sql`select pg_advisory_xact_lock(hashtext('turnout polls'))`.execute(trx);
}

/**
 * Inserts a poll, or changes it unless it is final: a new revision, which reopens the poll if it has closed and its time to
 * close has not passed.
 */
async function putPoll(trx: Trx, poll: Poll, position: number | null): Promise<void> {
  const stored = await trx
    .selectFrom('polls')
    .select(['no', 'final_at'])
    .where('id', '=', poll.id)
    .forUpdate()
    .executeTakeFirst();
  if (stored?.final_at) return;
  const values = {
    question: poll.question,
    opens_at: poll.opensAt === undefined ? null : new Date(poll.opensAt),
    closes_at: poll.closesAt === undefined ? null : new Date(poll.closesAt),
    position,
    results: poll.results ?? 'live',
    is_hidden: poll.hidden ?? false,
    retain_votes_days: poll.retainVotesDays ?? null,
    presentation: sql`${JSON.stringify({ lang: poll.lang, texts: poll.texts, colours: poll.colours })}::jsonb`,
  };
  const { no } = stored
    ? await trx
        .updateTable('polls')
        .set({ ...values, revision: sql`revision + 1`, closed_at: null })
        .where('no', '=', stored.no)
        .returning('no')
        .executeTakeFirstOrThrow()
    : await trx
        .insertInto('polls')
        .values({ ...values, id: poll.id })
        .returning('no')
        .executeTakeFirstOrThrow();
  await putChoices(trx, no, poll.choices);
}

/** A choice that is no longer offered stays, because votes for it count; its number is never used again. */
async function putChoices(trx: Trx, pollNo: number, choices: Poll['choices']): Promise<void> {
  await trx.updateTable('choices').set({ position: null }).where('poll_no', '=', pollNo).execute();
  await sql`
    insert into choices (poll_no, no, id, label, position)
    select ${pollNo}::smallint,
      (select coalesce(max(no), 0) from choices where poll_no = ${pollNo}) + position, id, label, position - 1
    from unnest(${choices.map(({ id }) => id)}::text[], ${choices.map(({ label }) => label)}::text[])
      with ordinality as offered (id, label, position)
    on conflict (poll_no, id) do update set label = excluded.label, position = excluded.position
  `.execute(trx);
}

async function withdrawPoll(trx: Trx, id: string): Promise<void> {
  await trx.selectFrom('polls').select('no').where('id', '=', id).forUpdate().execute();
  await trx
    .updateTable('polls')
    .set({ position: null, closed_at: sql`coalesce(closed_at, now())`, revision: sql`revision + 1` })
    .where('id', '=', id)
    .where('final_at', 'is', null)
    .execute();
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
