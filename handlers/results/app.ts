import { createHash } from 'node:crypto';
import { type Context, Hono } from 'hono';
import type { PollResult, ReceiptStatus } from '#db/results.ts';
import type { Log } from '#runtime/log.ts';
import { SAFE_HEADERS } from '../web/layout.ts';
import { answerProblem, INTERNAL, NOT_FOUND } from '../web/problem.ts';
import { toCsv } from './csv.ts';
import { type Feed, ResultsUnavailableError, type Snapshot } from './feed.ts';
import type { ReceiptOutcome } from './metrics.ts';
import { RESULTS_PAGE_HEADERS, resultsPage } from './page.ts';
import type { Edition, Streams } from './streams.ts';
import { viewOf } from './view.ts';

/** Receipts looked up at the same time; more are refused, so that a crowd with receipts cannot drown the database. */
export const RECEIPT_LOOKUPS_MAX = 100;
/** A crowd that was refused together must not come back together. */
const RETRY_SECONDS_MIN = 1;
const RETRY_SECONDS_MAX = 5;

/** A shared cache may answer for a second, which is how often the results are read. */
const SHARED_FOR_A_SECOND = { ...SAFE_HEADERS, 'Cache-Control': 'public, max-age=1' };

export interface ResultsAppParts {
  readonly feed: Pick<Feed, 'latest'>;
  readonly streams: Pick<Streams, 'isFull' | 'start'>;
  readonly readReceipt: (receipt: string) => Promise<ReceiptStatus>;
  readonly log: Log;
  readonly onReceipt?: (outcome: ReceiptOutcome) => void;
}

/** The text of an answer, made once a snapshot. */
interface Rendered extends Edition {
  readonly etag: string;
}

/**
 * The side of the public that watches: a live page, results as JSON, CSV and events, and what became of a receipt. The
 * contract is in DESIGN under "HTTP: results".
 */
export function createResultsApp({ feed, streams, readReceipt, log, onReceipt }: ResultsAppParts): Hono {
  const app = new Hono();
  const renderings = new WeakMap<Snapshot, Map<string, Rendered>>();
  let lookups = 0;

  const render = (snapshot: Snapshot, key: string, make: () => { body: string; content?: string }) => {
    const known = renderings.get(snapshot) ?? new Map<string, Rendered>();
    renderings.set(snapshot, known);
    let rendered = known.get(key);
    if (!rendered) {
      const { body, content = body } = make();
      rendered = { body, content, etag: `"${createHash('sha256').update(body).digest('base64url')}"` };
      known.set(key, rendered);
    }
    return rendered;
  };

  const renderJson = (snapshot: Snapshot, poll: PollResult): Rendered =>
    render(snapshot, `json ${poll.poll}`, () => {
      const view = viewOf(poll, snapshot);
      return { body: JSON.stringify(view), content: JSON.stringify({ ...view, asOf: undefined }) };
    });

  app.get('/', async (c) => {
    const snapshot = await feed.latest();
    const rendered = render(snapshot, 'page', () => ({ body: resultsPage(snapshot) }));
    return answer(c, rendered, RESULTS_PAGE_HEADERS);
  });

  app.get('/polls/:poll/results', async (c) => {
    const snapshot = await feed.latest();
    const poll = pollOf(c, snapshot);
    if (!poll) return unknownPoll(c);
    return answer(c, renderJson(snapshot, poll), {
      ...SHARED_FOR_A_SECOND,
      'Content-Type': 'application/json',
    });
  });

  app.get('/polls/:poll/results.csv', async (c) => {
    const snapshot = await feed.latest();
    const poll = pollOf(c, snapshot);
    if (!poll) return unknownPoll(c);
    const rendered = render(snapshot, `csv ${poll.poll}`, () => ({ body: toCsv(viewOf(poll, snapshot)) }));
    return answer(c, rendered, {
      ...SHARED_FOR_A_SECOND,
      'Content-Type': 'text/csv; charset=UTF-8; header=present',
      'Content-Disposition': `attachment; filename="${poll.poll.replace(/[^\w-]/g, '_')}-results.csv"`,
    });
  });

  app.get('/polls/:poll/results/stream', async (c) => {
    const snapshot = await feed.latest();
    const poll = pollOf(c, snapshot);
    if (!poll) return unknownPoll(c);
    if (streams.isFull) return unavailable(c, 'too many streams are open');
    for (const [name, value] of Object.entries(SAFE_HEADERS)) c.header(name, value);
    // nginx and its kin would hold events back.
    c.header('X-Accel-Buffering', 'no');
    if (c.req.method === 'HEAD') return c.body(null, 200, { 'Content-Type': 'text/event-stream' });
    return streams.start(c, snapshot, (newer) => {
      const now = newer.results.polls.find(({ poll: id }) => id === poll.poll);
      return now && renderJson(newer, now);
    });
  });

  app.get('/receipts/:receipt', async (c) => {
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
      log.repeated('a receipt cannot be looked up', { error });
      return unavailable(c, 'the receipt cannot be looked up now');
    } finally {
      lookups -= 1;
    }
  });

  app.notFound((c) => answerProblem(c, NOT_FOUND));

  app.onError((error, c) => {
    if (error instanceof ResultsUnavailableError) return unavailable(c, 'the results cannot be read now');
    log.error('a request failed', { error });
    return answerProblem(c, INTERNAL);
  });

  return app;
}

function pollOf(c: Context, { results }: Snapshot): PollResult | undefined {
  const id = c.req.param('poll');
  return results.polls.find(({ poll }) => poll === id);
}

function answer(c: Context, { body, etag }: Rendered, headers: Readonly<Record<string, string>>): Response {
  const known = c.req.header('if-none-match')?.split(',') ?? [];
  // A cache on the way may have compressed the answer and made the tag a weak one.
  const isKnown = known.some((tag) => tag.trim().replace(/^W\//, '') === etag);
  return isKnown
    ? c.body(null, 304, { ...headers, ETag: etag })
    : c.body(body, 200, { ...headers, ETag: etag });
}

function unknownPoll(c: Context): Response {
  return answerProblem(c, {
    status: 404,
    code: 'unknown_poll',
    title: 'There is no such poll',
    detail: 'the address names no poll',
  });
}

function unavailable(c: Context, detail: string): Response {
  const span = RETRY_SECONDS_MAX - RETRY_SECONDS_MIN + 1;
  return answerProblem(
    c,
    { status: 503, code: 'results_unavailable', title: 'The results are not available', detail },
    { 'Retry-After': String(RETRY_SECONDS_MIN + Math.floor(Math.random() * span)) },
  );
}
