import { type Batch, sourceName, type Vote } from '#job';

export const POLL = 'cats-vs-dogs';
/** Ids of two nodes, and a source of each. */
export const NODE = 'aaaaaaaaaaaaa';
export const OTHER_NODE = 'bbbbbbbbbbbbb';
export const SOURCE: string = sourceName('node', NODE, 't0-1');
export const OTHER_SOURCE: string = sourceName('other', OTHER_NODE, 't0-2');

/** Returns the id of a numbered voter. */
export function voterId(number: number): string {
  return `01900000-0000-7000-8000-${number.toString(16).padStart(12, '0')}`;
}

/** Returns a vote; `castAt` is in microseconds after a fixed time. */
export function vote(voter: number, choice: string, castAt: number, poll = POLL): Vote {
  return [poll, voterId(voter), choice, 1_790_000_000_000_000 + castAt];
}

export function batch(seq: number, votes: readonly Vote[], source = SOURCE): Batch {
  return { source, seq, votes };
}

/** Returns the expected tables for votes in any order: each voter's last vote, by time, then choice. */
export function modelOf(votes: Iterable<Vote>): {
  readonly votes: Map<string, Vote>;
  readonly tallies: Map<string, number>;
} {
  const last = new Map<string, Vote>();
  for (const vote of votes) {
    const key = `${vote[0]} ${vote[1]}`;
    const known = last.get(key);
    if (!known || vote[3] > known[3] || (vote[3] === known[3] && vote[2] > known[2])) last.set(key, vote);
  }
  const tallies = new Map<string, number>();
  for (const [poll, , choice] of last.values()) {
    const key = `${poll} ${choice}`;
    tallies.set(key, (tallies.get(key) ?? 0) + 1);
  }
  return { votes: last, tallies };
}
