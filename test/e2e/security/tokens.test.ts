import { describe, expect, test } from 'vitest';
import { createVoterTokens } from '#handlers/vote/voter.ts';
import { ask } from '#kit/raw-http.ts';
import { storedVotes } from '#kit/tables.ts';
import { Secret } from '#runtime/secret.ts';
import {
  cast,
  countedChoice,
  database,
  HOUR_US,
  JSON_TYPE,
  POLL,
  secondVote,
  tokens,
  untilAllCounted,
  VOTES,
  vote,
  voterOf,
  votesCaptured,
} from './fixture.ts';

describe('a forged token', () => {
  test('is refused whichever byte was changed, and captures no vote', async () => {
    const token = tokens.sign(tokens.mint());
    const before = await votesCaptured();
    const bytes = Buffer.from(token, 'base64url');
    const forged = Array.from(bytes.keys(), (place) => {
      const changed = Buffer.from(bytes);
      changed.writeUInt8(changed.readUInt8(place) ^ 1, place);
      return changed.toString('base64url');
    });
    const answers = await Promise.all(forged.map((text) => cast(vote, 'dogs', text)));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([401]));
    expect(await votesCaptured()).toBe(before);
  });

  test.each<[string, () => string]>([
    ['signed with another key', () => createVoterTokens(new Secret('x'.repeat(64))).sign(tokens.mint())],
    ['with the signature of another voter', () => swap(25)],
    ['with the time of another vote', () => swap(17, 25)],
    ['without its last character', () => tokens.sign(tokens.mint()).slice(0, -1)],
    ['without its signature', () => tokens.sign(tokens.mint()).slice(0, 34)],
    ['with a byte appended', () => `${tokens.sign(tokens.mint())}A`],
    ['twice', () => tokens.sign(tokens.mint()).repeat(2)],
    ['of zero bytes', () => 'A'.repeat(76)],
    ['with an encoded NUL', () => `%00${tokens.sign(tokens.mint()).slice(3)}`],
    ['that is SQL', () => `'%20or%201=1--`],
    ['that is a JSON web token without signature', () => 'eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.'],
  ])('%s is refused as bearer and as cookie', async (_, make) => {
    const before = await votesCaptured();
    const token = make();
    expect((await cast(vote, 'dogs', token)).status).toBe(401);
    const cookie = { ...JSON_TYPE, cookie: `turnout_voter=${token}` };
    expect((await ask(vote.url, VOTES, 'POST', cookie, '{"choice":"dogs"}')).status).toBe(401);
    expect(await votesCaptured()).toBe(before);
  });

  /** A token whose bytes from `start` on are those of another one. */
  function swap(start: number, end?: number): string {
    const mine = Buffer.from(tokens.sign(tokens.mint()), 'base64url');
    const theirs = Buffer.from(tokens.sign({ ...tokens.mint(), lastCastAt: 1 }), 'base64url');
    theirs.copy(mine, start, start, end);
    return mine.toString('base64url');
  }
});

describe('a replayed token', () => {
  test('never creates a second voter, in any number and order', async () => {
    const first = await cast(vote, 'cats');
    const second = await cast(vote, 'dogs', first.token);
    const all = [first.token, second.token, first.token, second.token, first.token];
    for (const token of all)
      expect(voterOf((await cast(vote, 'cats', token)).token)).toBe(voterOf(first.token));
    await untilAllCounted();
    const votes = [...(await storedVotes(database.db)).values()];
    expect(votes.filter(([poll, voter]) => poll === POLL && voter === voterOf(first.token))).toHaveLength(1);
  });

  test('casts a current vote, even if it is an old token', async () => {
    const first = await cast(vote, 'cats');
    const second = await cast(vote, 'dogs', first.token);
    expect(await countedChoice(first.token)).toBe('dogs');
    const replayed = await cast(vote, 'cats', first.token);
    expect([first.castAt, second.castAt, replayed.castAt].toSorted()).toEqual([
      first.castAt,
      second.castAt,
      replayed.castAt,
    ]);
    expect(await countedChoice(first.token)).toBe('cats');
  });

  test('older than the last vote cannot restore an older choice through a node with a slow clock', async () => {
    const first = await cast(vote, 'cats');
    const voter = tokens.verify(first.token) ?? tokens.mint();
    // As from a node whose clock is an hour ahead; the second node takes its time from there.
    const ahead = tokens.sign({ ...voter, lastCastAt: voter.lastCastAt + HOUR_US });
    const last = await cast(secondVote, 'dogs', ahead);
    const replayed = await cast(vote, 'cats', first.token);
    expect(replayed.status).toBe(202);
    expect(replayed.castAt < last.castAt).toBe(true);
    expect(await countedChoice(first.token)).toBe('dogs');
    // With the token that the last vote gave, the voter's next vote counts on the same slow node.
    const next = await cast(vote, 'cats', last.token);
    expect(next.castAt > last.castAt).toBe(true);
    expect(await countedChoice(first.token)).toBe('cats');
  });
});
