import type { Poll } from '#runtime/polls.ts';
import { ballotFormat, readChoice } from './ballot.ts';
import type { Capture } from './capture.ts';
import { type Clock, formatMicros } from './clock.ts';
import { choiceCookie, readVoterCookie, voterCookie } from './cookies.ts';
import { voterPath } from './page.ts';
import type { PollBook } from './polls.ts';
import { Problem, toProblem } from './problem.ts';
import { isBrowserForm, isSameOrigin, type VoteRequest } from './request.ts';
import { JSON_HEADERS, respond } from './response.ts';
import type { Voter, VoterTokens } from './voter.ts';

/** Visible ASCII except `"` and `\\`, which would need escapes. */
const IDEMPOTENCY_KEY = /^("?)([!#-[\]-~]{16,64})\1$/;

export interface VotingParts {
  readonly polls: Pick<PollBook, 'listed' | 'get' | 'image' | 'phaseOf' | 'msToChange'>;
  readonly capture: Pick<Capture, 'capture'>;
  readonly tokens: VoterTokens;
  readonly clock: Clock;
  /** `issued` accepts only votes with a token of the issuer; `open` mints one for a first vote. */
  readonly admission: 'open' | 'issued';
  /** See `settings.receiptsUrl`. */
  readonly resultsUrl?: string | undefined;
}

/**
 * Checks a vote, captures it, and answers once it is on disk: 202 to programs, 303 to browsers.
 *
 * @throws Problem when the vote is refused or not captured
 */
export async function submitVote(parts: VotingParts, poll: Poll, request: VoteRequest): Promise<Response> {
  const { capture, tokens, clock, resultsUrl } = parts;
  const choice = await validateVote(parts, poll, request);
  const voter = authenticate(parts, request);
  const castAt = clock(voter.lastCastAt);
  const cookie = voterCookie(request, tokens.sign({ ...voter, lastCastAt: castAt }));
  let receipt: string;
  try {
    receipt = await capture.capture([poll.id, voter.id, choice, castAt]);
  } catch (error) {
    // With the cookie, a new voter who retries is the same voter and counts once.
    throw toProblem(error, cookie);
  }
  if (isBrowserForm(request)) {
    const path = voterPath(poll);
    const headers = new Headers({ Location: path, 'Content-Length': '0' });
    headers.append('Set-Cookie', cookie);
    headers.append('Set-Cookie', choiceCookie(request, poll, choice, path));
    return new Response(null, { status: 303, headers });
  }
  const accepted = { status: 'accepted', poll: poll.id, choice, castAt: formatMicros(castAt), receipt };
  const headers: Record<string, string> = { ...JSON_HEADERS, 'Set-Cookie': cookie };
  if (resultsUrl !== undefined) headers['Location'] = `${resultsUrl}/receipts/${receipt}`;
  return respond(202, headers, JSON.stringify(accepted));
}

/**
 * Returns the `Set-Cookie` value of a new voter for a visitor without a token, else `undefined`. A voter who has it
 * before the first vote stays one voter when that vote is sent twice.
 */
export function issueVoterCookie(
  { admission, tokens }: Pick<VotingParts, 'admission' | 'tokens'>,
  request: VoteRequest,
): string | undefined {
  if (admission === 'issued' || readToken(request) !== undefined) return undefined;
  return voterCookie(request, tokens.sign(tokens.mint()));
}

/** Validates a vote, cheap checks first, and returns its choice. @throws Problem */
async function validateVote({ polls }: VotingParts, poll: Poll, request: VoteRequest): Promise<string> {
  const format = ballotFormat(request);
  if (!isSameOrigin(request)) throw new Problem('cross_site', 'the request comes from another origin');
  const phase = polls.phaseOf(poll.id);
  if (phase === 'not open') throw new Problem('poll_not_open', 'the poll opens later');
  if (phase === 'closed') throw new Problem('poll_closed', 'the poll has closed');
  const choice = await readChoice(request, format);
  if (!poll.choices.some(({ id }) => id === choice)) {
    throw new Problem('unknown_choice', 'the poll has no such choice');
  }
  return choice;
}

/**
 * Returns the voter of the request's token; without one, where `admission` allows that, the voter of its idempotency key,
 * or a new one.
 *
 * @throws Problem
 */
function authenticate({ admission, tokens }: VotingParts, request: VoteRequest): Voter {
  const key = readIdempotencyKey(request);
  const token = readToken(request);
  if (token !== undefined) {
    const voter = tokens.verify(token);
    if (!voter) throw new Problem('bad_voter_token', 'the token has no valid signature');
    if (admission === 'open' || voter.isIssued) return voter;
  }
  if (admission === 'issued') throw new Problem('bad_voter_token', 'a vote requires a token of the issuer');
  if (key === undefined) return tokens.mint();
  return { id: tokens.derive('idempotency key', key), lastCastAt: 0, isIssued: false };
}

/**
 * Returns the idempotency key, without the quotes that draft-ietf-httpapi-idempotency-key-header puts around it.
 *
 * @throws Problem `malformed`
 */
function readIdempotencyKey(request: VoteRequest): string | undefined {
  const header = request.header('idempotency-key');
  if (header === undefined) return undefined;
  const key = IDEMPOTENCY_KEY.exec(header)?.[2];
  if (key === undefined) {
    throw new Problem(
      'malformed',
      'an Idempotency-Key has 16 to 64 visible ASCII characters, no quotes inside',
    );
  }
  return key;
}

/** Returns the token in `Authorization: Bearer` or in the cookie; `undefined` when the request has neither. */
function readToken(request: VoteRequest): string | undefined {
  const authorization = request.header('authorization');
  if (authorization === undefined) return readVoterCookie(request);
  return /^Bearer (\S+)$/i.exec(authorization)?.[1] ?? '';
}
