import { PollBook } from '#handlers/vote/polls.ts';
import { formatStoredPoll, type Poll, type StoredPoll } from '#runtime/polls.ts';
import { recordLog } from './log.ts';

/** Returns a poll as workers store it at first. */
export function storedPoll(poll: Poll & Partial<StoredPoll>, position = 0): StoredPoll {
  return { revision: 1, isClosed: false, position, ...poll };
}

/** Returns the content of `POLLS_KEY` for these polls. */
export function pollFields(polls: readonly StoredPoll[]): Record<string, string> {
  return Object.fromEntries(polls.map((poll) => [poll.id, formatStoredPoll(poll)]));
}

/** Returns the polls of a handler, as it has read them from its node. */
export function pollBook(polls: readonly (Poll & Partial<StoredPoll>)[], now?: () => number): PollBook {
  const book = new PollBook(recordLog().log, now);
  book.apply(pollFields(polls.map(storedPoll)));
  return book;
}
