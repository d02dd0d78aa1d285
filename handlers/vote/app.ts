import { type Context, Hono } from 'hono';
import type { Challenge } from '#runtime/challenges.ts';
import type { Log } from '#runtime/log.ts';
import type { StoredPoll } from '#runtime/polls.ts';
import { prefersHtml } from '../web/accept.ts';
import { answerCacheable } from '../web/cacheable.ts';
import { SAFE_HEADERS } from '../web/layout.ts';
import { formatProblem, PROBLEM_HEADERS, retryAfter } from '../web/problem.ts';
import { readChoiceCookie } from './cookies.ts';
import { createPages } from './page.ts';
import { describeProblem, PROBLEMS, Problem, type ProblemCode, toProblem } from './problem.ts';
import { isBrowserForm, requestOf } from './request.ts';
import { respond } from './response.ts';
import { issueVoterCookie, submitVote, type VotingParts } from './voting.ts';

/** Polls change rarely, and a vote for a closed one is refused; a cache that asks this often saves a handler almost all views. */
const CACHE_SECONDS = 5;
/** While no handler answers, a page lets voters try. */
const STALE_SECONDS = 300;

/** The name changes with the content. */
const IMAGE_HEADERS = { 'Cache-Control': 'public, max-age=31536000, immutable', ...SAFE_HEADERS };

export interface VoteAppParts extends VotingParts {
  /** Shown on the pages: its solution gets a token from the issuer. */
  readonly challenge?: Challenge | undefined;
  readonly log: Log;
  /** Called with the code of each problem that is answered. */
  readonly onProblem?: (code: ProblemCode) => void;
}

/**
 * Returns the voters' app: `GET /` and `GET /polls/{poll}` (the page, the same for everybody), `GET /polls/{poll}.json` (the
 * definition), `GET /images/{name}`, `GET /polls/{poll}/ballot` (the page for one voter), and `POST /polls/{poll}/votes`.
 * `problem.ts` lists every error.
 */
export function createVoteApp(parts: VoteAppParts): Hono {
  const { polls, challenge, log, onProblem, resultsUrl } = parts;
  const pages = createPages(polls, challenge);
  const app = new Hono();

  const findPoll = (id: string): StoredPoll => {
    const poll = polls.get(id);
    if (!poll) throw new Problem('unknown_poll', 'the path names no poll');
    return poll;
  };

  const showPoll = (c: Context, poll: StoredPoll): Response => {
    const phase = polls.phaseOf(poll.id);
    return answerCacheable(
      pages.poll(poll, phase),
      requestOf(c).header,
      cacheControl(polls.msToChange(poll.id)),
    );
  };

  const showDefinition = (c: Context, poll: StoredPoll): Response => {
    const definition = pages.definition(poll, polls.phaseOf(poll.id));
    return answerCacheable(definition, requestOf(c).header, cacheControl(polls.msToChange(poll.id)));
  };

  const showImage = (name: string): Response => {
    const bytes = polls.image(name);
    if (!bytes) throw new Problem('not_found', 'no poll has this image');
    const headers = { 'Content-Type': `image/${name.slice(name.indexOf('.') + 1)}`, ...IMAGE_HEADERS };
    return new Response(bytes, { headers });
  };

  const showVoter = (c: Context, poll: StoredPoll): Response => {
    const request = requestOf(c);
    const chosen = readChoiceCookie(request, poll);
    const voterCookie = issueVoterCookie(parts, request);
    const { headers, body } = pages.voter(poll, { phase: polls.phaseOf(poll.id), chosen });
    return respond(200, { ...headers, ...(voterCookie && { 'Set-Cookie': voterCookie }) }, body);
  };

  const answerError = (c: Context, error: Error): Response => {
    const problem = toProblem(error);
    if (problem.code === 'internal') log.error('request failed', { error: problem.cause });
    const { status, toVoter } = PROBLEMS[problem.code];
    onProblem?.(problem.code);
    const extra = {
      ...extraHeaders(status),
      ...(problem.voterCookie && { 'Set-Cookie': problem.voterCookie }),
    };
    if (!wantsPage(c)) {
      return respond(
        status,
        { ...PROBLEM_HEADERS, ...extra },
        formatProblem(describeProblem(problem), resultsUrl),
      );
    }
    const poll = polls.get(c.req.param('poll') ?? '');
    const { headers, body } = poll
      ? pages.voter(poll, { phase: polls.phaseOf(poll.id), notice: toVoter })
      : pages.notice(toVoter);
    return respond(status, { ...headers, ...extra }, body);
  };

  app.get('/', (c) => {
    const [first] = polls.listed;
    if (!first) throw new Problem('unknown_poll', 'there is no poll');
    return showPoll(c, first);
  });
  app.get('/polls/:poll', (c) => {
    const name = c.req.param('poll');
    // Ids have no dots.
    return name.endsWith('.json')
      ? showDefinition(c, findPoll(name.slice(0, -'.json'.length)))
      : showPoll(c, findPoll(name));
  });
  app.get('/images/:name', (c) => showImage(c.req.param('name')));
  app.get('/polls/:poll/ballot', (c) => showVoter(c, findPoll(c.req.param('poll'))));
  // One route for all methods: where two routes match, Hono composes a middleware chain for each request.
  app.all('/polls/:poll/votes', (c) => {
    if (c.req.method !== 'POST') throw new Problem('method_not_allowed', 'send votes with POST');
    return submitVote(parts, findPoll(c.req.param('poll')), requestOf(c));
  });
  app.notFound((c) => answerError(c, new Problem('not_found', 'nothing has this path')));
  app.onError((error, c) => answerError(c, error));
  return app;
}

/** How long caches keep what is the same for everybody: not beyond the time at which a poll opens or closes. */
function cacheControl(msToChange: number): string {
  if (msToChange < CACHE_SECONDS * 2_000)
    return `public, max-age=${Math.min(CACHE_SECONDS, Math.floor(msToChange / 1_000))}`;
  return `public, max-age=${CACHE_SECONDS}, stale-while-revalidate=${CACHE_SECONDS}, stale-if-error=${STALE_SECONDS}`;
}

/** Whether an error is shown as a page: to browsers that sent a form or asked for a page. */
function wantsPage(c: Context): boolean {
  if (c.req.method === 'POST') return isBrowserForm(requestOf(c));
  return c.req.method === 'GET' && prefersHtml(requestOf(c));
}

function extraHeaders(status: number): Record<string, string> {
  if (status === 503) return retryAfter();
  if (status === 401) return { 'WWW-Authenticate': 'Bearer' };
  if (status === 405) return { Allow: 'POST' };
  // The rest of an oversized body stays unread, so the connection cannot be reused.
  if (status === 413) return { Connection: 'close' };
  return {};
}
