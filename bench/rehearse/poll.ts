import { userInfo } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NodeQueues } from '#audit/queues.ts';
import { isTaken, untilTaken } from '#audit/taken.ts';
import type { Db } from '#db/client.ts';
import { closePoll, forgetPoll } from '#db/control.ts';
import { readPollStates } from '#db/poll-states.ts';
import { addHiddenPoll } from '#db/polls.ts';
import { StartError } from '#dev/errors.ts';
import { CHOICES } from './crowd.ts';

const LOOK_INTERVAL_MS = 100;
const RETRY_INTERVAL_MS = 500;
/** PostgreSQL restarts within this time after a fault. */
const RETRY_MS_MAX = 60_000;
const PAGE_MS_MAX = 10_000;
/** A rehearsal that is killed leaves a poll that closes by itself this long after the crowd. */
const OPEN_SLACK_MS = 10 * 60_000;

/** The hidden poll of one rehearsal. */
export interface RehearsalPoll {
  readonly id: string;
  close(): Promise<void>;
  /** Waits until its result is final. @returns whether it is, after at most `msMax` */
  untilFinal(msMax: number): Promise<boolean>;
  /** Returns the voters that are counted for each choice. */
  counted(): Promise<ReadonlyMap<string, number>>;
  /** Deletes its votes; it disappears. */
  forget(): Promise<void>;
}

/**
 * Opens the poll and waits until every handler has it.
 *
 * @param openMs how long the crowd votes
 * @throws StartError when a node or handler does not take it
 */
export async function openRehearsalPoll(db: Db, queues: NodeQueues, openMs: number): Promise<RehearsalPoll> {
  const id = `rehearsal-${new Date().toISOString().slice(0, 19).replace(/\D/g, '')}`;
  const request = { who: userInfo().username, why: 'npm run rehearse' };
  const closesAt = Date.now() + openMs + OPEN_SLACK_MS;
  const isAdded = await addHiddenPoll(
    db,
    { id, question: 'A rehearsal', choices: CHOICES, closesAt },
    request,
  );
  if (!isAdded) throw new StartError(`the poll ${id} exists: is another rehearsal running?`);
  const poll: RehearsalPoll = {
    id,
    close: async () => {
      await retried(() => closePoll(db, id, request));
    },
    untilFinal: async (msMax) => {
      const deadline = Date.now() + msMax;
      while (Date.now() < deadline) {
        const states = await readPollStates(db).catch(() => []);
        if (states.some((state) => state.id === id && state.finalAt !== null)) return true;
        await sleep(LOOK_INTERVAL_MS);
      }
      return false;
    },
    counted: () => retried(() => countedByChoice(db, id)),
    forget: async () => {
      await retried(() => forgetPoll(db, id, request));
    },
  };
  const [report] = await untilTaken(db, queues, id);
  if (!report || !isTaken(report) || report.handlers.of === 0) {
    await poll.close();
    const missing = [...(report?.nodes.missing ?? []), ...(report?.handlers.missing ?? [])];
    throw new StartError(`the poll was not taken by ${missing.join(', ') || 'any handler'}`);
  }
  return poll;
}

/**
 * Checks that a target knows the poll: else it belongs to another system than the database.
 *
 * @throws StartError when it does not respond with the definition of the poll
 */
export async function requirePoll(target: string, poll: string): Promise<void> {
  const url = `${target}/polls/${poll}.json`;
  const answer = await fetch(url, { signal: AbortSignal.timeout(PAGE_MS_MAX) }).then(
    ({ status }) => String(status),
    (error: Error) => String(error.cause ?? error.message),
  );
  if (answer !== '200')
    throw new StartError(`${url} answers ${answer}: is this the system of the database that the poll is in?`);
}

async function countedByChoice(db: Db, poll: string): Promise<Map<string, number>> {
  const rows = await db
    .selectFrom('tallies')
    .innerJoin('polls', 'polls.no', 'tallies.poll_no')
    .innerJoin('choices', (join) =>
      join.onRef('choices.poll_no', '=', 'polls.no').onRef('choices.no', '=', 'tallies.choice_no'),
    )
    .where('polls.id', '=', poll)
    .select(['choices.id', (eb) => eb.fn.sum<number>('tallies.votes').as('votes')])
    .groupBy('choices.id')
    .execute();
  return new Map(rows.map(({ id, votes }) => [id, Number(votes)]));
}

/** Repeats work that fails, because PostgreSQL may be restarting. */
async function retried<T>(work: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + RETRY_MS_MAX;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await sleep(RETRY_INTERVAL_MS);
    }
  }
}
