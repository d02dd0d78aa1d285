import { type Context, Hono } from 'hono';
import { getCookie } from 'hono/cookie';
import type { Log } from '../../stack/runtime/log.ts';
import { type Poll, phaseOf } from '../../stack/runtime/polls.ts';
import { PAGE_HEADERS } from '../web/layout.ts';
import { answerProblem } from '../web/problem.ts';
import { ballotFormat, readChoice } from './ballot.ts';
import { type Capture, NotCapturedError } from './capture.ts';
import { type Clock, formatMicros } from './clock.ts';
import { createPages } from './page.ts';
import { describeProblem, PROBLEMS, Problem } from './problem.ts';
import type { Voter, VoterTokens } from './voter.ts';

const VOTER_COOKIE = 'turnout_voter';
/** Remembers, for the page alone, what the voter chose; it counts nothing, so nobody gains by changing it. */
const CHOICE_COOKIE = 'turnout_choice';
const COOKIE_SECONDS = 365 * 24 * 60 * 60;
/** An answer is for one voter and is JSON, whatever a browser or a cache may think. */
const JSON_HEADERS = { 'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff' };
/** A page shows what its voter chose. */
const VOTER_PAGE_HEADERS = { ...PAGE_HEADERS, 'Cache-Control': 'private, no-cache' };
/** A crowd that was refused together must not come back together. */
const RETRY_SECONDS_MIN = 1;
const RETRY_SECONDS_MAX = 5;

export interface VoteAppParts {
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

/**
 * The voters' side: a page for each poll, and the place to send votes to. The contract is in DESIGN under
 * "HTTP: vote"; `problem.ts` has every error.
 */
export function createVoteApp(parts: VoteAppParts): Hono {
  const { polls, capture, tokens, clock, admission, log, now = Date.now, onProblem } = parts;
  const pollById = new Map(polls.map((poll) => [poll.id, poll]));
  const pages = createPages(polls);
  const app = new Hono();

  const findPoll = (id: string | undefined): Poll => {
    const poll = pollById.get(id ?? '');
    if (!poll) throw new Problem('unknown_poll', 'the address names no poll');
    return poll;
  };

  const showPoll = (c: Context, poll: Poll): Response => {
    const phase = phaseOf(poll, now());
    c.header('Vary', 'Accept, Cookie');
    if (prefersJson(c)) {
      const { id, question, choices, opensAt, closesAt } = poll;
      const definition = {
        poll: id,
        question,
        choices,
        opensAt: isoTime(opensAt),
        closesAt: isoTime(closesAt),
      };
      return c.json({ ...definition, phase }, 200, JSON_HEADERS);
    }
    const chosen = getCookie(c, `${CHOICE_COOKIE}_${poll.id}`);
    return c.body(pages.poll(poll, { phase, chosen }), 200, VOTER_PAGE_HEADERS);
  };

  app.get('/', (c) => showPoll(c, polls[0] as Poll));
  app.get('/polls/:poll', (c) => showPoll(c, findPoll(c.req.param('poll'))));

  app.post('/polls/:poll/votes', async (c) => {
    const poll = findPoll(c.req.param('poll'));
    const format = ballotFormat(c.req);
    refuseOtherSites(c);
    const phase = phaseOf(poll, now());
    if (phase === 'not open') throw new Problem('poll_not_open', 'the poll opens later');
    if (phase === 'closed') throw new Problem('poll_closed', 'the poll has closed');
    const choice = await readChoice(c.req, format);
    if (!poll.choices.some(({ id }) => id === choice)) {
      throw new Problem('unknown_choice', 'the poll has no such choice');
    }

    const voter = admit(c);
    const castAt = clock(voter.lastCastAt);
    // Sent with a refusal too: a new voter who tries again is then the same voter, and not counted twice.
    setCookie(c, VOTER_COOKIE, tokens.sign({ id: voter.id, lastCastAt: castAt }));
    const receipt = await capture.capture([poll.id, voter.id, choice, castAt]);

    if (isBrowserForm(c)) {
      setCookie(c, `${CHOICE_COOKIE}_${poll.id}`, choice);
      return c.redirect(`/polls/${poll.id}`, 303);
    }
    const castAtText = formatMicros(castAt);
    return c.json(
      { status: 'accepted', poll: poll.id, choice, castAt: castAtText, receipt },
      202,
      JSON_HEADERS,
    );
  });

  app.all('/polls/:poll/votes', (c) => {
    c.header('Allow', 'POST');
    throw new Problem('method_not_allowed', 'votes are sent with POST');
  });

  function admit(c: Context): Voter {
    const token = presentedToken(c);
    if (token === undefined) {
      if (admission === 'issued')
        throw new Problem('bad_voter_token', 'this poll takes votes with a token only');
      return tokens.mint();
    }
    const voter = tokens.verify(token);
    if (!voter) throw new Problem('bad_voter_token', 'the token was not issued here');
    return voter;
  }

  app.notFound((c) => refuse(c, new Problem('not_found', 'no page has this address')));

  app.onError((error, c) => {
    if (error instanceof Problem) return refuse(c, error);
    if (error instanceof NotCapturedError) return refuse(c, new Problem('not_captured', error.message));
    log.error('a request failed', { error });
    return refuse(c, new Problem('internal', 'the request failed for a reason of ours'));
  });

  function refuse(c: Context, problem: Problem): Response {
    const { status, toVoter } = PROBLEMS[problem.code];
    onProblem?.(problem.code);
    if (status === 503) c.header('Retry-After', retrySeconds());
    if (status === 401) c.header('WWW-Authenticate', 'Bearer');
    // The rest of an oversized body is never read, so the connection cannot be used again.
    if (status === 413) c.header('Connection', 'close');
    if (isBrowserForm(c) || (c.req.method === 'GET' && prefersHtml(c))) {
      const poll = pollById.get(c.req.param('poll') ?? '');
      const page = poll
        ? pages.poll(poll, { phase: phaseOf(poll, now()), notice: toVoter })
        : pages.notice(toVoter);
      return c.body(page, status, VOTER_PAGE_HEADERS);
    }
    return answerProblem(c, describeProblem(problem));
  }

  return app;
}

function presentedToken(c: Context): string | undefined {
  const authorization = c.req.header('authorization');
  if (authorization === undefined) return getCookie(c, VOTER_COOKIE);
  return /^Bearer (\S+)$/i.exec(authorization)?.[1] ?? '';
}

/** `Secure` only where the voter's own connection is encrypted; else the browser would throw the cookie away. */
function setCookie(c: Context, name: string, value: string): void {
  const secure = c.req.header('x-forwarded-proto') === 'https' ? '; Secure' : '';
  c.header(
    'Set-Cookie',
    `${name}=${value}; Path=/; Max-Age=${COOKIE_SECONDS}; HttpOnly; SameSite=Lax${secure}`,
    { append: true },
  );
}

/**
 * Refuses a vote that a browser sends on behalf of another site, where the voter's cookie would vote for them. Browsers
 * tell by `Sec-Fetch-Site`, older ones by `Origin`; programs send neither.
 */
function refuseOtherSites(c: Context): void {
  const site = c.req.header('sec-fetch-site');
  if (site === 'same-origin' || site === 'none') return;
  const origin = c.req.header('origin');
  if (site === undefined && origin === undefined) return;
  const host = c.req.header('host');
  const isOurs = origin !== undefined && URL.canParse(origin) && new URL(origin).host === host;
  if (site !== undefined || !isOurs) throw new Problem('cross_site', 'the request comes from another origin');
}

function isBrowserForm(c: Context): boolean {
  if (c.req.method !== 'POST' || !prefersHtml(c)) return false;
  return !c.req.header('content-type')?.toLowerCase().startsWith('application/json');
}

function prefersHtml(c: Context): boolean {
  return c.req.header('accept')?.includes('text/html') ?? false;
}

function prefersJson(c: Context): boolean {
  return !prefersHtml(c) && (c.req.header('accept')?.includes('application/json') ?? false);
}

function isoTime(milliseconds: number | undefined): string | null {
  return milliseconds === undefined ? null : new Date(milliseconds).toISOString();
}

function retrySeconds(): string {
  const span = RETRY_SECONDS_MAX - RETRY_SECONDS_MIN + 1;
  return String(RETRY_SECONDS_MIN + Math.floor(Math.random() * span));
}
