import { type Context, Hono } from 'hono';
import { getCookie } from 'hono/cookie';
import { type Poll, phaseOf } from '#runtime/polls.ts';
import { createPages } from './page.ts';
import { Problem } from './problem.ts';
import { requestOf, type VoteRequest } from './request.ts';
import {
  type Answer,
  CHOICE_COOKIE,
  createVoting,
  isBrowserForm,
  JSON_HEADERS,
  prefersHtml,
  VOTER_PAGE_HEADERS,
  type VotingParts,
} from './voting.ts';

/** Given with the others: a header that is set before there is an answer makes Hono build a `Headers` of Fetch. */
const BY_VISITOR = { Vary: 'Accept, Cookie' };

/**
 * The voters' side: a page for each poll, and the place to send votes to. The contract is in DESIGN under
 * "HTTP: vote"; `problem.ts` has every error.
 */
export function createVoteApp(parts: VotingParts): Hono {
  const { polls, now = Date.now } = parts;
  const pollById = new Map(polls.map((poll) => [poll.id, poll]));
  const pages = createPages(polls);
  const voting = createVoting(parts, pages);
  const app = new Hono();

  const findPoll = (id: string | undefined): Poll => {
    const poll = pollById.get(id ?? '');
    if (!poll) throw new Problem('unknown_poll', 'the address names no poll');
    return poll;
  };

  const showPoll = (c: Context, poll: Poll): Response => {
    const phase = phaseOf(poll, now());
    if (prefersJson(requestOf(c))) {
      const { id, question, choices, opensAt, closesAt } = poll;
      const definition = {
        poll: id,
        question,
        choices,
        opensAt: isoTime(opensAt),
        closesAt: isoTime(closesAt),
      };
      return c.json({ ...definition, phase }, 200, { ...JSON_HEADERS, ...BY_VISITOR });
    }
    const chosen = getCookie(c, `${CHOICE_COOKIE}_${poll.id}`);
    const voter = voting.welcome(requestOf(c));
    const headers = { ...VOTER_PAGE_HEADERS, ...BY_VISITOR, ...(voter && { 'Set-Cookie': voter }) };
    return c.body(pages.poll(poll, { phase, chosen }), 200, headers);
  };

  app.get('/', (c) => showPoll(c, polls[0] as Poll));
  app.get('/polls/:poll', (c) => showPoll(c, findPoll(c.req.param('poll'))));

  app.post('/polls/:poll/votes', async (c) =>
    responseOf(await voting.take(findPoll(c.req.param('poll')), requestOf(c))),
  );

  app.all('/polls/:poll/votes', () => {
    throw new Problem('method_not_allowed', 'votes are sent with POST');
  });

  app.notFound((c) => refuse(c, new Problem('not_found', 'no page has this address')));

  app.onError((error, c) => refuse(c, error));

  function refuse(c: Context, error: Error): Response {
    const request = requestOf(c);
    const isShown =
      c.req.method === 'POST' ? isBrowserForm(request) : c.req.method === 'GET' && prefersHtml(request);
    return responseOf(voting.refuse(error, pollById.get(c.req.param('poll') ?? ''), isShown));
  }

  return app;
}

function responseOf({ status, headers, body }: Answer): Response {
  const pairs = Object.entries(headers).flatMap(([name, value]) =>
    [value].flat().map((one): [string, string] => [name, one]),
  );
  pairs.push(['Content-Length', String(Buffer.byteLength(body))]);
  // An empty text would get a type of its own.
  return new Response(body || null, { status, headers: pairs });
}

function prefersJson(request: VoteRequest): boolean {
  return !prefersHtml(request) && (request.header('accept')?.includes('application/json') ?? false);
}

function isoTime(milliseconds: number | undefined): string | null {
  return milliseconds === undefined ? null : new Date(milliseconds).toISOString();
}
