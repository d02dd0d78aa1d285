import { type Context, Hono } from 'hono';
import type { Evidence, PollResult, ReceiptStatus } from '#db/results.ts';
import type { Log } from '#runtime/log.ts';
import openapi from '../openapi.json' with { type: 'json' };
import { prefersHtml } from '../web/accept.ts';
import { pageHeaders, SAFE_HEADERS } from '../web/layout.ts';
import { answerProblem, linkProblems, retryAfter } from '../web/problem.ts';
import { problem } from '../web/problems.ts';
import { type Feed, ResultsUnavailableError, type Snapshot } from './feed.ts';
import type { ReceiptOutcome } from './metrics.ts';
import { RESULTS_CACHE_CONTROL } from './page.ts';
import { renderProblemPages } from './problem-page.ts';
import { receiptPage } from './receipt-page.ts';
import { type Rendering, Renderings, renderingOf } from './renderings.ts';
import type { Streams } from './streams.ts';
import { evidenceView, isShown } from './view.ts';

/** Concurrent look-ups of receipts and evidence; more are refused, so that a crowd cannot overload the database. */
export const LOOKUPS_MAX = 100;

const SHARED_FOR_A_SECOND = { ...SAFE_HEADERS, 'Cache-Control': RESULTS_CACHE_CONTROL };
/** Of what changes with a release only. */
const SHARED_FOR_AN_HOUR = { 'Cache-Control': 'public, max-age=3600' };

export interface ResultsAppParts {
  readonly feed: Pick<Feed, 'latest'>;
  readonly streams: Pick<Streams, 'isFull' | 'start'>;
  readonly readReceipt: (receipt: string) => Promise<ReceiptStatus>;
  /** See `readEvidence` in `db/results.ts`. */
  readonly readEvidence: (poll: string) => Promise<Evidence | 'not final' | undefined>;
  /** See `settings.receiptsUrl`. */
  readonly resultsUrl?: string | undefined;
  /** See `settings.voteUrl`. */
  readonly voteUrl?: string | undefined;
  readonly log: Log;
  /** Called with the outcome of each receipt look-up. */
  readonly onReceipt?: (outcome: ReceiptOutcome) => void;
}

/**
 * Returns the app for viewers: live pages, also for a large screen, results as JSON, CSV and events, their evidence, and the status
 * of receipts. An embargoed result has only a page without counts. The app also serves the API description of all handlers and a
 * page for each problem.
 */
export function createResultsApp(parts: ResultsAppParts): Hono {
  const { feed, streams, log, resultsUrl, voteUrl } = parts;
  const app = new Hono();
  const renderings = new Renderings();
  const lookUp = limitLookups();
  app.use(linkProblems(resultsUrl));

  const page = (c: Context, snapshot: Snapshot, poll?: PollResult): Response => {
    const rendering = renderings.page(snapshot, poll);
    return respond(c, rendering, rendering.headers);
  };
  app.get('/', async (c) => page(c, await feed.latest()));
  app.get('/polls/:poll', async (c) => {
    const snapshot = await feed.latest();
    const poll = findPoll(c, snapshot);
    return poll ? page(c, snapshot, poll) : unknownPoll(c);
  });

  const wall = (c: Context, snapshot: Snapshot, poll?: PollResult): Response => {
    if (!poll) return unknownPoll(c);
    const rendering = renderings.wall(snapshot, poll, voteUrl);
    return respond(c, rendering, rendering.headers);
  };
  app.get('/wall', async (c) => {
    const snapshot = await feed.latest();
    return wall(
      c,
      snapshot,
      snapshot.results.polls.find(({ isHidden }) => !isHidden),
    );
  });
  app.get('/polls/:poll/wall', async (c) => {
    const snapshot = await feed.latest();
    return wall(c, snapshot, findPoll(c, snapshot));
  });

  app.get('/polls/:poll/results', async (c) => {
    const snapshot = await feed.latest();
    const poll = findPoll(c, snapshot);
    if (!poll) return unknownPoll(c);
    if (!isShown(poll)) return embargoed(c);
    const headers = { ...SHARED_FOR_A_SECOND, 'Content-Type': 'application/json' };
    return respond(c, renderings.json(snapshot, poll), headers);
  });

  app.get('/polls/:poll/results.csv', async (c) => {
    const snapshot = await feed.latest();
    const poll = findPoll(c, snapshot);
    if (!poll) return unknownPoll(c);
    if (!isShown(poll)) return embargoed(c);
    return respond(c, renderings.csv(snapshot, poll), {
      ...SHARED_FOR_A_SECOND,
      'Content-Type': 'text/csv; charset=UTF-8; header=present',
      'Content-Disposition': `attachment; filename="${poll.poll.replace(/[^\w-]/g, '_')}-results.csv"`,
    });
  });

  app.get('/polls/:poll/results/stream', async (c) => {
    const snapshot = await feed.latest();
    const poll = findPoll(c, snapshot);
    if (!poll) return unknownPoll(c);
    if (!isShown(poll)) return embargoed(c);
    if (streams.isFull) return unavailable(c, 'too many streams are open');
    for (const [name, value] of Object.entries(SAFE_HEADERS)) c.header(name, value);
    // Without it nginx and similar proxies buffer events.
    c.header('X-Accel-Buffering', 'no');
    if (c.req.method === 'HEAD') return c.body(null, 200, { 'Content-Type': 'text/event-stream' });
    return streams.start(c, snapshot, (newer) => {
      const current = findPoll(c, newer);
      return current && isShown(current) ? renderings.json(newer, current) : undefined;
    });
  });

  app.get('/polls/:poll/results/evidence', evidenceHandler(parts, lookUp));
  app.get('/receipts/:receipt', receiptHandler(parts, lookUp));

  const description = renderingOf(JSON.stringify(openapi));
  app.get('/openapi.json', (c) =>
    respond(c, description, { ...SAFE_HEADERS, ...SHARED_FOR_AN_HOUR, 'Content-Type': 'application/json' }),
  );
  const problemPages = renderProblemPages();
  app.get('/problems/:code', (c) => {
    const page = problemPages.get(c.req.param('code'));
    return page
      ? respond(c, page, { ...pageHeaders(), ...SHARED_FOR_AN_HOUR })
      : answerProblem(c, problem('not_found'));
  });

  app.notFound((c) => answerProblem(c, problem('not_found')));

  app.onError((error, c) => {
    if (error instanceof ResultsUnavailableError) return unavailable(c, 'the results cannot be read now');
    log.error('request failed', { error });
    return answerProblem(c, problem('internal'));
  });

  return app;
}

/** Runs a query; `undefined` when `LOOKUPS_MAX` are running. */
type LookUp = <T>(query: () => Promise<T>) => Promise<T> | undefined;

function limitLookups(): LookUp {
  let running = 0;
  return (query) => {
    if (running >= LOOKUPS_MAX) return undefined;
    running += 1;
    return query().finally(() => {
      running -= 1;
    });
  };
}

function receiptHandler({ readReceipt, log, onReceipt }: ResultsAppParts, lookUp: LookUp) {
  return async (c: Context<object, '/receipts/:receipt'>): Promise<Response> => {
    const receipt = c.req.param('receipt');
    const found = lookUp(() => readReceipt(receipt));
    if (!found) {
      onReceipt?.('refused');
      return unavailable(c, 'too many receipts are being looked up');
    }
    try {
      const status = await found;
      onReceipt?.(status);
      const headers = { 'Cache-Control': 'no-store', Vary: 'Accept' };
      if (!prefersHtml(c.req)) return c.json({ receipt, status }, 200, { ...SAFE_HEADERS, ...headers });
      const { body, headers: ofPage } = receiptPage(receipt, status);
      return c.body(body, 200, { ...ofPage, ...headers });
    } catch (error) {
      onReceipt?.('failed');
      log.repeated('receipt look-up failed', { error });
      return unavailable(c, 'the receipt cannot be looked up now');
    }
  };
}

function evidenceHandler({ readEvidence, log }: ResultsAppParts, lookUp: LookUp) {
  return async (c: Context<object, '/polls/:poll/results/evidence'>): Promise<Response> => {
    const found = lookUp(() => readEvidence(c.req.param('poll')));
    if (!found) return unavailable(c, 'too many receipts are being looked up');
    try {
      const evidence = await found;
      if (evidence === undefined) return unknownPoll(c);
      // 404 as RFC 9110 defines it: there is no representation yet, and the client can do nothing about it.
      if (evidence === 'not final') return answerProblem(c, problem('not_final'));
      const headers = { ...SAFE_HEADERS, ...SHARED_FOR_AN_HOUR, 'Content-Type': 'application/json' };
      return respond(c, renderingOf(JSON.stringify(evidenceView(evidence))), headers);
    } catch (error) {
      log.repeated('evidence look-up failed', { error });
      return unavailable(c, 'the evidence cannot be looked up now');
    }
  };
}

function findPoll(c: Context, { results }: Snapshot): PollResult | undefined {
  const id = c.req.param('poll');
  return results.polls.find(({ poll }) => poll === id);
}

function respond(
  c: Context,
  { body, etag }: Rendering,
  headers: Readonly<Record<string, string>> = {},
): Response {
  const known = c.req.header('if-none-match')?.split(',') ?? [];
  // A cache that compressed the response has made the tag a weak one.
  const isKnown = known.some((tag) => tag.trim().replace(/^W\//, '') === etag);
  return isKnown
    ? c.body(null, 304, { ...headers, ETag: etag })
    : c.body(body, 200, { ...headers, ETag: etag });
}

function unknownPoll(c: Context): Response {
  return answerProblem(c, problem('unknown_poll'));
}

function embargoed(c: Context): Response {
  return answerProblem(c, problem('embargoed'));
}

function unavailable(c: Context, detail: string): Response {
  return answerProblem(c, problem('results_unavailable', detail), retryAfter());
}
