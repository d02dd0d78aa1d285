import type { Log } from '#runtime/log.ts';
import { type Poll, phaseOf } from '#runtime/polls.ts';
import { PAGE_HEADERS, SAFE_HEADERS } from '../web/layout.ts';
import { ballotFormat, readChoice } from './ballot.ts';
import { type Capture, NotCapturedError } from './capture.ts';
import { type Clock, formatMicros } from './clock.ts';
import type { createPages } from './page.ts';
import { describeProblem, PROBLEMS, Problem } from './problem.ts';
import type { VoteRequest } from './request.ts';
import type { Voter, VoterTokens } from './voter.ts';

const VOTER_COOKIE = 'turnout_voter';
const VOTER_COOKIE_VALUE = /(?:^|;)\s*turnout_voter=([^;]*)/;
/** Remembers, for the page alone, what the voter chose; it counts nothing, so nobody gains by changing it. */
export const CHOICE_COOKIE = 'turnout_choice';
const COOKIE_SECONDS = 365 * 24 * 60 * 60;
/** An answer is for one voter and is JSON, whatever a browser or a cache may think. */
export const JSON_HEADERS = {
  'Content-Type': 'application/json',
  'Cache-Control': 'no-store',
  'X-Content-Type-Options': 'nosniff',
};
const PROBLEM_HEADERS = {
  ...SAFE_HEADERS,
  'Content-Type': 'application/problem+json',
  'Cache-Control': 'no-store',
};
/** A page shows what its voter chose. */
export const VOTER_PAGE_HEADERS = { ...PAGE_HEADERS, 'Cache-Control': 'private, no-cache' };
/** A crowd that was refused together must not come back together. */
const RETRY_SECONDS_MIN = 1;
const RETRY_SECONDS_MAX = 5;

/** What a request is answered with, for any server. */
export interface Answer {
  readonly status: number;
  /** A header with several values is sent as several headers. */
  readonly headers: Readonly<Record<string, string | string[]>>;
  readonly body: string;
}

export interface VotingParts {
  readonly polls: readonly Poll[];
  readonly capture: Pick<Capture, 'capture'>;
  readonly tokens: VoterTokens;
  readonly clock: Clock;
  /** `issued` takes no vote without a token that was issued before. */
  readonly admission: 'open' | 'issued';
  readonly log: Log;
  /** Milliseconds since 1970, for the opening hours of polls. */
  readonly now?: () => number;
  /** Hears the code of every problem that was answered. */
  readonly onProblem?: (code: Problem['code']) => void;
}

/** Takes votes, and says why it does not take others. */
export interface Voting {
  /**
   * The cookie that goes with a page, for a visitor who has none: who taps twice before the first answer is there, or
   * again because it never came, is then one voter and not two.
   */
  welcome(request: VoteRequest): string | undefined;
  /** Never throws: whatever is wrong is an answer. */
  take(poll: Poll, request: VoteRequest): Promise<Answer>;
  /**
   * The answer to a request that ends with an error.
   *
   * @param poll whose page shows the problem, if a page shows it
   * @param asPage whether a page shall show it, not JSON
   */
  refuse(error: unknown, poll: Poll | undefined, asPage: boolean): Answer;
}

/** What happens to a vote between its request and its answer, whatever server they travel through. */
export function createVoting(parts: VotingParts, pages: ReturnType<typeof createPages>): Voting {
  const { polls, capture, tokens, clock, admission, log, now = Date.now, onProblem } = parts;

  const welcome = (request: VoteRequest): string | undefined => {
    if (admission === 'issued' || presentedToken(request) !== undefined) return undefined;
    return voterCookie(request, tokens.mint());
  };

  const take = async (poll: Poll, request: VoteRequest): Promise<Answer> => {
    let remember: string | undefined;
    try {
      const format = ballotFormat(request);
      refuseOtherSites(request);
      const phase = phaseOf(poll, now());
      if (phase === 'not open') throw new Problem('poll_not_open', 'the poll opens later');
      if (phase === 'closed') throw new Problem('poll_closed', 'the poll has closed');
      const choice = await readChoice(request, format);
      if (!poll.choices.some(({ id }) => id === choice)) {
        throw new Problem('unknown_choice', 'the poll has no such choice');
      }
      const voter = admit(request);
      const castAt = clock(voter.lastCastAt);
      remember = voterCookie(request, { id: voter.id, lastCastAt: castAt });
      const receipt = await capture.capture([poll.id, voter.id, choice, castAt]);
      if (isBrowserForm(request)) {
        const page = `/polls/${poll.id}`;
        // Only where it is shown: a voter of many polls would one day send more cookies than a server takes.
        const shownAt = poll.id === polls[0]?.id ? '/' : page;
        const choiceCookie = cookie(request, `${CHOICE_COOKIE}_${poll.id}`, choice, shownAt);
        const headers = { Location: page, 'Set-Cookie': [remember, choiceCookie] };
        return { status: 303, headers, body: '' };
      }
      const accepted = { status: 'accepted', poll: poll.id, choice, castAt: formatMicros(castAt), receipt };
      const headers = { ...JSON_HEADERS, 'Set-Cookie': remember };
      return { status: 202, headers, body: JSON.stringify(accepted) };
    } catch (error) {
      const { status, headers, body } = refuse(error, poll, isBrowserForm(request));
      // Sent with a refusal too: a new voter who tries again is then the same voter, and not counted twice.
      return { status, headers: { ...headers, ...(remember && { 'Set-Cookie': remember }) }, body };
    }
  };

  const refuse = (error: unknown, poll: Poll | undefined, asPage: boolean): Answer => {
    const problem = problemOf(error, log);
    const { status, toVoter } = PROBLEMS[problem.code];
    onProblem?.(problem.code);
    const extra = extraHeaders(status);
    if (!asPage) {
      const { code, title, detail } = describeProblem(problem);
      const body = JSON.stringify({ type: 'about:blank', title, status, code, detail });
      return { status, headers: { ...PROBLEM_HEADERS, ...extra }, body };
    }
    const body = poll
      ? pages.poll(poll, { phase: phaseOf(poll, now()), notice: toVoter })
      : pages.notice(toVoter);
    return { status, headers: { ...VOTER_PAGE_HEADERS, ...extra }, body };
  };

  function voterCookie(request: VoteRequest, voter: Voter): string {
    return cookie(request, VOTER_COOKIE, tokens.sign(voter), '/');
  }

  function admit(request: VoteRequest): Voter {
    const token = presentedToken(request);
    if (token === undefined) {
      if (admission === 'issued')
        throw new Problem('bad_voter_token', 'this poll takes votes with a token only');
      return tokens.mint();
    }
    const voter = tokens.verify(token);
    if (!voter) throw new Problem('bad_voter_token', 'the token was not issued here');
    return voter;
  }

  return { welcome, take, refuse };
}

function problemOf(error: unknown, log: Log): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof NotCapturedError) return new Problem('not_captured', error.message);
  log.error('a request failed', { error });
  return new Problem('internal', 'the request failed for a reason of ours');
}

function extraHeaders(status: number): Record<string, string> {
  if (status === 503) return { 'Retry-After': retrySeconds() };
  if (status === 401) return { 'WWW-Authenticate': 'Bearer' };
  if (status === 405) return { Allow: 'POST' };
  // The rest of an oversized body is never read, so the connection cannot be used again.
  if (status === 413) return { Connection: 'close' };
  return {};
}

function presentedToken(request: VoteRequest): string | undefined {
  const authorization = request.header('authorization');
  if (authorization === undefined) {
    return VOTER_COOKIE_VALUE.exec(request.header('cookie') ?? '')?.[1]?.trim();
  }
  return /^Bearer (\S+)$/i.exec(authorization)?.[1] ?? '';
}

/** `Secure` only where the voter's own connection is encrypted; else the browser would throw the cookie away. */
function cookie(request: VoteRequest, name: string, value: string, path: string): string {
  const secure = request.header('x-forwarded-proto') === 'https' ? '; Secure' : '';
  return `${name}=${value}; Path=${path}; Max-Age=${COOKIE_SECONDS}; HttpOnly; SameSite=Lax${secure}`;
}

/**
 * Refuses a vote that a browser sends on behalf of another site, where the voter's cookie would vote for them. Browsers
 * tell by `Sec-Fetch-Site`, older ones by `Origin`; programs send neither.
 */
function refuseOtherSites(request: VoteRequest): void {
  const site = request.header('sec-fetch-site');
  if (site === 'same-origin' || site === 'none') return;
  const origin = request.header('origin');
  if (site === undefined && origin === undefined) return;
  const host = request.header('host');
  const isOurs = origin !== undefined && URL.canParse(origin) && new URL(origin).host === host;
  if (site !== undefined || !isOurs) throw new Problem('cross_site', 'the request comes from another origin');
}

/** Whether a vote was sent by a page, in a browser that will show the answer. */
export function isBrowserForm(request: VoteRequest): boolean {
  if (!prefersHtml(request)) return false;
  return !request.header('content-type')?.toLowerCase().startsWith('application/json');
}

export function prefersHtml(request: VoteRequest): boolean {
  return request.header('accept')?.includes('text/html') ?? false;
}

function retrySeconds(): string {
  const span = RETRY_SECONDS_MAX - RETRY_SECONDS_MIN + 1;
  return String(RETRY_SECONDS_MIN + Math.floor(Math.random() * span));
}
