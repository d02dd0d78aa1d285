import { type Context, Hono } from 'hono';
import type { PollResult, ReceiptStatus } from '#db/results.ts';
import type { Log } from '#runtime/log.ts';
import { SAFE_HEADERS } from '../web/layout.ts';
import { answerProblem, INTERNAL, NOT_FOUND, type Problem, retryAfter } from '../web/problem.ts';
import { type Feed, ResultsUnavailableError, type Snapshot } from './feed.ts';
import type { ReceiptOutcome } from './metrics.ts';
import { type Rendering, Renderings } from './renderings.ts';
import type { Streams } from './streams.ts';
import { isShown } from './view.ts';

/** Concurrent receipt look-ups; more are refused, so that a crowd with receipts cannot overload the database. */
export const RECEIPT_LOOKUPS_MAX = 100;

/** Shared caches may keep a response for a second, the interval at which the results are read. */
const SHARED_FOR_A_SECOND = { ...SAFE_HEADERS, 'Cache-Control': 'public, max-age=1' };

export interface ResultsAppParts {
  readonly feed: Pick<Feed, 'latest'>;
  readonly streams: Pick<Streams, 'isFull' | 'start'>;
  readonly readReceipt: (receipt: string) => Promise<ReceiptStatus>;
  readonly log: Log;
  /** Called with the outcome of each receipt look-up. */
  readonly onReceipt?: (outcome: ReceiptOutcome) => void;
}

/**
 * Returns the app for viewers: live pages, results as JSON, CSV and events, and the status of receipts. An embargoed result has
 * only a page without counts.
 */
export function createResultsApp(parts: ResultsAppParts): Hono {
  const { feed, streams, log } = parts;
  const app = new Hono();
  const renderings = new Renderings();

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

  app.get('/receipts/:receipt', receiptHandler(parts));

  app.notFound((c) => answerProblem(c, NOT_FOUND));

  app.onError((error, c) => {
    if (error instanceof ResultsUnavailableError) return unavailable(c, 'the results cannot be read now');
    log.error('request failed', { error });
    return answerProblem(c, INTERNAL);
  });

  return app;
}

/** Returns the handler of receipts, with at most `RECEIPT_LOOKUPS_MAX` queries at once. */
function receiptHandler({ readReceipt, log, onReceipt }: ResultsAppParts) {
  let lookups = 0;
  return async (c: Context<object, '/receipts/:receipt'>): Promise<Response> => {
    if (lookups >= RECEIPT_LOOKUPS_MAX) {
      onReceipt?.('refused');
      return unavailable(c, 'too many receipts are being looked up');
    }
    lookups += 1;
    try {
      const receipt = c.req.param('receipt');
      const status = await readReceipt(receipt);
      onReceipt?.(status);
      return c.json({ receipt, status }, 200, { ...SAFE_HEADERS, 'Cache-Control': 'no-store' });
    } catch (error) {
      onReceipt?.('failed');
      log.repeated('receipt look-up failed', { error });
      return unavailable(c, 'the receipt cannot be looked up now');
    } finally {
      lookups -= 1;
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
  return answerProblem(c, {
    status: 404,
    code: 'unknown_poll',
    title: 'Unknown poll',
    detail: 'the address names no poll',
  });
}

function embargoed(c: Context): Response {
  return answerProblem(c, {
    status: 403,
    code: 'embargoed',
    title: 'Result embargoed',
    detail: 'the result is shown once it is final',
  });
}

function unavailable(c: Context, detail: string): Response {
  const problem: Problem = { status: 503, code: 'results_unavailable', title: 'Results unavailable', detail };
  return answerProblem(c, problem, retryAfter());
}
