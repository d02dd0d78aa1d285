import { createHash } from 'node:crypto';
import { html } from 'hono/html';
import { beforeEach, describe, expect, test } from 'vitest';
import type { Evidence, ReceiptStatus } from '#db/results.ts';
import { createResultsApp, LOOKUPS_MAX } from '#handlers/results/app.ts';
import { ResultsUnavailableError, type Snapshot } from '#handlers/results/feed.ts';
import { Streams } from '#handlers/results/streams.ts';
import { PROBLEMS } from '#handlers/web/problems.ts';
import { recordLog } from '#kit/log.ts';
import { until } from '#kit/until.ts';
import { resultsOf, someResults } from './results.ts';

const AS_OF = Date.UTC(2027, 1, 7, 23, 30, 5);

const HISTORY = [
  { at: AS_OF - 20_000, accepted: 0 },
  { at: AS_OF - 10_000, accepted: 12_340 },
];

/** A feed whose snapshots the test controls. */
class ManualFeed {
  snapshot: Snapshot | undefined = { results: someResults(), asOf: AS_OF };
  readonly listeners = new Set<(snapshot: Snapshot) => void>();

  async latest(): Promise<Snapshot> {
    if (!this.snapshot) throw new ResultsUnavailableError('never read');
    return this.snapshot;
  }

  subscribe(listener: (snapshot: Snapshot) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  push(snapshot: Snapshot): void {
    this.snapshot = snapshot;
    for (const listener of this.listeners) listener(snapshot);
  }
}

let feed: ManualFeed;
let readReceipt: (receipt: string) => Promise<ReceiptStatus>;
let readEvidence: (poll: string) => Promise<Evidence | 'not final' | undefined>;

beforeEach(() => {
  feed = new ManualFeed();
  readReceipt = async () => 'counted';
  readEvidence = async () => 'not final';
});

function createApp(streams = new Streams({ feed }), resultsUrl?: string, voteUrl?: string) {
  return createResultsApp({
    feed,
    streams,
    readReceipt: (receipt) => readReceipt(receipt),
    readEvidence: (poll) => readEvidence(poll),
    resultsUrl,
    voteUrl,
    log: recordLog().log,
  });
}

async function problemOf(response: Response) {
  expect(response.headers.get('content-type')).toBe('application/problem+json');
  expect(response.headers.get('cache-control')).toBe('no-store');
  return { status: response.status, ...((await response.json()) as { code: string }) };
}

describe('results', () => {
  test.each([
    ['/', 'text/html; charset=UTF-8'],
    ['/polls/cats-vs-dogs/results', 'application/json'],
    ['/polls/cats-vs-dogs/results.csv', 'text/csv; charset=UTF-8; header=present'],
  ])('at %s are cacheable for a second and have an entity tag', async (path, type) => {
    const app = createApp();
    const response = await app.request(path);
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe(type);
    expect(response.headers.get('cache-control')).toBe(
      'public, max-age=1, stale-while-revalidate=5, stale-if-error=60',
    );
    expect(response.headers.get('x-content-type-options')).toBe('nosniff');

    const tag = response.headers.get('etag') ?? '';
    const again = await app.request(path, { headers: { 'If-None-Match': `"other", W/${tag}` } });
    expect(again.status).toBe(304);
    expect(await again.text()).toBe('');

    feed.push({ results: someResults(), asOf: AS_OF + 1_000 });
    const newer = await app.request(path, { headers: { 'If-None-Match': tag } });
    expect(newer.status).toBe(200);
  });

  test('are a named attachment as CSV', async () => {
    const response = await createApp().request('/polls/cats-vs-dogs/results.csv');
    expect(response.headers.get('content-disposition')).toBe(
      'attachment; filename="cats-vs-dogs-results.csv"',
    );
  });

  test.each(['results', 'results.csv', 'results/stream'])('/%s of an unknown poll is 404', async (what) => {
    const response = await createApp().request(`/polls/birds/${what}`);
    expect(await problemOf(response)).toMatchObject({ status: 404, code: 'unknown_poll' });
  });

  test.each(['/', '/polls/cats-vs-dogs/results', '/polls/cats-vs-dogs/results/stream'])(
    'at %s are 503 before the first read',
    async (path) => {
      feed.snapshot = undefined;
      const response = await createApp().request(path);
      expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0);
      expect(await problemOf(response)).toMatchObject({ status: 503, code: 'results_unavailable' });
    },
  );

  test('have no other address', async () => {
    const app = createApp();
    expect(await problemOf(await app.request('/nothing'))).toMatchObject({ status: 404, code: 'not_found' });
    expect((await app.request('/', { method: 'POST' })).status).toBe(404);
  });
});

describe('an embargoed result', () => {
  beforeEach(() => {
    feed.snapshot = { results: resultsOf({ choices: null }), asOf: AS_OF };
  });

  test.each(['results', 'results.csv', 'results/stream'])('is 403 at /%s, also for HEAD', async (what) => {
    const path = `/polls/cats-vs-dogs/${what}`;
    const streams = new Streams({ feed });
    const response = await createApp(streams).request(path);
    expect(await problemOf(response)).toMatchObject({ status: 403, code: 'embargoed' });
    expect((await createApp(streams).request(path, { method: 'HEAD' })).status).toBe(403);
    expect(streams.open).toBe(0);
  });

  test('is not confirmed by an entity tag from before the embargo', async () => {
    const app = createApp();
    feed.push({ results: someResults(), asOf: AS_OF });
    const path = '/polls/cats-vs-dogs/results';
    const tag = (await app.request(path)).headers.get('etag') ?? '';
    feed.push({ results: resultsOf({ choices: null }), asOf: AS_OF });
    expect((await app.request(path, { headers: { 'If-None-Match': tag } })).status).toBe(403);
  });

  test.each(['/', '/polls/cats-vs-dogs', '/wall'])('has a page without counts at %s', async (path) => {
    feed.snapshot = { results: resultsOf({ choices: null }), asOf: AS_OF, pace: 5, history: HISTORY };
    const text = await (await createApp().request(path)).text();
    const main = /<main>([\s\S]*)<\/main>/.exec(text)?.[1] ?? '';
    expect(main).toContain('The result is shown once it is final.');
    expect(main).toContain('Cats or dogs?');
    expect(main).not.toMatch(/<rect|csv|class="label"/);
    expect(main.replace(/<time.*?<\/time>|<[^>]+>/g, '')).not.toMatch(/\d|%/);
  });
});

describe('a poll', () => {
  test('that is hidden is on its own page, and on no other', async () => {
    const results = resultsOf({ isHidden: true });
    feed.snapshot = { results, asOf: AS_OF };
    const textOf = async (path: string) => (await createApp().request(path)).text();
    expect(await textOf('/')).toContain('There is no poll yet.');
    expect(await textOf('/')).not.toContain('Cats');
    expect(await textOf('/polls/cats-vs-dogs')).toContain('66.7%');
    expect(await textOf('/polls/cats-vs-dogs/results')).toContain('"total":3');
  });

  test('has a page of its own, which links to its CSV', async () => {
    const app = createApp();
    const text = await (await app.request('/polls/cats-vs-dogs')).text();
    const href = /href="([^"]*\.csv)"/.exec(text)?.[1] ?? '';
    const { pathname } = new URL(href, 'http://results.test/polls/cats-vs-dogs');
    expect((await app.request(pathname)).status).toBe(200);
    expect((await app.request('/polls/birds')).status).toBe(404);
  });

  test('shows the pace of the evening', async () => {
    feed.snapshot = { results: someResults(), asOf: AS_OF, history: HISTORY };
    const text = await (await createApp().request('/')).text();
    expect(text).toContain('At most 1,234');
    expect(text).toContain('<svg class="curve"');
  });

  test('has its texts in its language and its colours, which the policy allows', async () => {
    const presentation = { lang: 'ar', colours: { light: '#0b5d3b', dark: '#8ee0b9' } };
    feed.snapshot = { results: resultsOf({ presentation }), asOf: AS_OF };
    const response = await createApp().request('/polls/cats-vs-dogs');
    const text = await response.text();
    expect(text).toContain('<h2 id="cats-vs-dogs" lang="ar" dir="rtl">Cats or dogs?</h2>');
    expect(text).toContain('<span class="label" lang="ar" dir="rtl">Cats</span>');
    const style = /<style>([\s\S]*)<\/style>/.exec(text)?.[1] ?? '';
    expect(style).toContain('--accent: #0b5d3b;');
    const hash = createHash('sha256').update(style).digest('base64');
    expect(response.headers.get('content-security-policy')).toContain(`style-src 'sha256-${hash}';`);
  });
});

describe('the wall', () => {
  const wallOf = async (path: string, voteUrl?: string) =>
    (await createApp(undefined, undefined, voteUrl).request(path)).text();

  test.each(['/wall', '/polls/cats-vs-dogs/wall'])(
    'at %s shows the result and leads to the vote',
    async (path) => {
      feed.snapshot = { results: someResults(), asOf: AS_OF, pace: 1_234 };
      const text = await wallOf(path, 'https://vote.example');
      expect(text).toContain('66.7%');
      expect(text).toContain('3 voters. Lately, 1,234 votes a second.');
      expect(text).toContain('<figcaption>vote.example/polls/cats-vs-dogs</figcaption>');
    },
  );

  test('has no code once voting is over, or without an address', async () => {
    expect(await wallOf('/wall')).not.toContain('class="qr"');
    feed.snapshot = { results: resultsOf({ finalAt: AS_OF }), asOf: AS_OF };
    expect(await wallOf('/wall', 'https://vote.example')).not.toContain('class="qr"');
    expect(await wallOf('/wall')).toContain('Final');
  });

  test('is of the first poll that is not hidden', async () => {
    expect((await createApp().request('/polls/birds/wall')).status).toBe(404);
    feed.snapshot = { results: resultsOf({ isHidden: true }), asOf: AS_OF };
    expect((await createApp().request('/wall')).status).toBe(404);
    expect(await wallOf('/polls/cats-vs-dogs/wall')).toContain('66.7%');
  });
});

describe('a receipt', () => {
  test.each([
    ['counted', 'Your vote is counted', false],
    ['pending', 'Your vote is safe and waits to be counted', true],
    ['unknown', 'This receipt is not known yet', true],
    ['written_off', 'Your vote is not in the result', false],
  ] as const)('that is %s has a page', async (status, title, isReloaded) => {
    readReceipt = async () => status;
    const response = await createApp().request('/receipts/%3Cb%3E', { headers: { Accept: 'text/html' } });
    const text = await response.text();
    expect(text).toContain(`<h1>${title}</h1>`);
    expect(text).toContain('Receipt: &lt;b&gt;');
    expect(response.headers.has('refresh')).toBe(isReloaded);
    expect(response.headers.get('cache-control')).toBe('no-store');
  });

  test('reveals its status only', async () => {
    const response = await createApp().request('/receipts/frontend01.mh3k2a-x7.42');
    expect(await response.json()).toEqual({ receipt: 'frontend01.mh3k2a-x7.42', status: 'counted' });
    expect(response.headers.get('cache-control')).toBe('no-store');
  });

  test('is refused above the limit of look-ups, and accepted again below it', async () => {
    const app = createApp();
    const { promise, resolve } = Promise.withResolvers<ReceiptStatus>();
    readReceipt = () => promise;
    const waiting = Array.from({ length: LOOKUPS_MAX }, () => app.request('/receipts/a'));
    const refused = await app.request('/receipts/a');
    expect(await problemOf(refused)).toMatchObject({ status: 503, code: 'results_unavailable' });
    resolve('pending');
    for (const response of await Promise.all(waiting)) expect(response.status).toBe(200);
    expect((await app.request('/receipts/a')).status).toBe(200);
  });

  test('is 503 while the database is down', async () => {
    readReceipt = async () => Promise.reject(new Error('no connection'));
    const response = await createApp().request('/receipts/a');
    expect(await problemOf(response)).toMatchObject({ status: 503, code: 'results_unavailable' });
  });
});

describe('evidence', () => {
  const PATH = '/polls/cats-vs-dogs/results/evidence';
  const SOURCE = 'frontend01-aaaaaaaaaaaaa.t0-1';
  const EVIDENCE: Evidence = {
    poll: 'cats-vs-dogs',
    revision: 3,
    finalAt: AS_OF,
    choices: [{ id: 'cats', label: 'Cats', votes: 2 }],
    sources: { [SOURCE]: 42 },
    writtenOff: [{ id: 'bbbbbbbbbbbbb', name: 'frontend02', reason: 'burned' }],
    writtenOffJobs: [
      { id: 'aaaaaaaaaaaaa', name: 'frontend01', reason: 'unreadable', jobs: [`${SOURCE}.41`] },
    ],
  };

  test('of a final result is cacheable and has an entity tag', async () => {
    readEvidence = async () => EVIDENCE;
    const app = createApp();
    const response = await app.request(PATH);
    expect(response.headers.get('cache-control')).toBe('public, max-age=3600');
    expect(await response.json()).toEqual({
      poll: 'cats-vs-dogs',
      revision: 3,
      finalAt: '2027-02-07T23:30:05.000Z',
      choices: [{ id: 'cats', label: 'Cats', votes: 2 }],
      sources: [{ source: SOURCE, lastJob: 42 }],
      writtenOff: [{ node: 'bbbbbbbbbbbbb', name: 'frontend02', reason: 'burned' }],
      writtenOffJobs: [
        { node: 'aaaaaaaaaaaaa', name: 'frontend01', reason: 'unreadable', jobs: [`${SOURCE}.41`] },
      ],
    });
    const headers = { 'If-None-Match': response.headers.get('etag') ?? '' };
    expect((await app.request(PATH, { headers })).status).toBe(304);
  });

  test('is 404 not_final before, and unknown_poll for a poll that does not exist', async () => {
    const app = createApp();
    expect(await problemOf(await app.request(PATH))).toMatchObject({ status: 404, code: 'not_final' });
    readEvidence = async () => undefined;
    expect(await problemOf(await app.request(PATH))).toMatchObject({ status: 404, code: 'unknown_poll' });
  });

  test('shares the limit of look-ups with receipts, so that neither overloads the database', async () => {
    const { promise, resolve } = Promise.withResolvers<ReceiptStatus>();
    readReceipt = () => promise;
    const app = createApp();
    const waiting = Array.from({ length: LOOKUPS_MAX }, () => app.request('/receipts/a'));
    const refused = await app.request(PATH);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await problemOf(refused)).toMatchObject({ status: 503, code: 'results_unavailable' });
    resolve('counted');
    await Promise.all(waiting);
    expect((await app.request(PATH)).status).toBe(404);
  });
});

describe('the type of a problem', () => {
  test('is the address of its page where the public address is configured, else a URN', async () => {
    const typeOf = async (resultsUrl?: string) => {
      const response = await createApp(undefined, resultsUrl).request('/polls/birds/results');
      return ((await response.json()) as { type: string }).type;
    };
    expect(await typeOf('https://r.test/x')).toBe('https://r.test/x/problems/unknown_poll');
    expect(await typeOf()).toBe('urn:turnout:problem:unknown_poll');
  });

  test.each(Object.entries(PROBLEMS))('%s has a page with cause and remedy', async (code, kind) => {
    const response = await createApp().request(`/problems/${code}`);
    expect(response.status).toBe(200);
    const text = await response.text();
    for (const part of [kind.title, kind.cause, kind.remedy, `Status ${kind.status}`]) {
      expect(text).toContain(String(html`${part}`));
    }
  });
});

describe('a stream', () => {
  const PATH = '/polls/cats-vs-dogs/results/stream';
  const changed = () => someResults({ ledger: { accepted: 4, committed: 3 } });

  /** Opens a stream; `text` is what was received. */
  async function open(streams: Streams) {
    const response = await createApp(streams).request(PATH);
    expect(response.headers.get('content-type')).toBe('text/event-stream');
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    if (!reader) throw new Error('there is no stream');
    const stream = { text: '', isOver: false, cancel: () => reader.cancel() };
    const read = async (): Promise<void> => {
      for (;;) {
        const { done, value = '' } = await reader.read();
        stream.text += value;
        if (done) break;
      }
      stream.isOver = true;
    };
    void read();
    return stream;
  }

  test('starts with the results, and continues when more than the time changes', async () => {
    const streams = new Streams({ feed });
    const stream = await open(streams);
    const first = JSON.stringify(await (await createApp().request('/polls/cats-vs-dogs/results')).json());
    await until('the first event', () => stream.text.includes(`data: ${first}\nid: ${AS_OF}\nretry: `));

    feed.push({ results: someResults(), asOf: AS_OF + 1_000 });
    feed.push({ results: changed(), asOf: AS_OF + 2_000 });
    await until('the second event', () => stream.text.includes(`id: ${AS_OF + 2_000}\n\n`));
    expect(stream.text).not.toContain(`id: ${AS_OF + 1_000}\n`);
    expect(stream.text.match(/^data: /gm)?.length).toBe(2);
    await stream.cancel();
    await until('nothing is left', () => streams.open === 0 && feed.listeners.size === 0);
  });

  test('sends heartbeats while nothing changes', async () => {
    const streams = new Streams({ feed, heartbeatIntervalMs: 20 });
    const stream = await open(streams);
    await until('three heartbeats', () => (stream.text.match(/^: heartbeat$/gm)?.length ?? 0) >= 3);
    expect(stream.text.match(/^data: /gm)?.length).toBe(1);
    await stream.cancel();
    await until('nothing is left', () => streams.open === 0);
  });

  test.each([
    ['an embargo begins', resultsOf({ choices: null })],
    ['its poll is withdrawn', someResults({ polls: [] })],
  ])('ends without another event when %s', async (_, results) => {
    const streams = new Streams({ feed });
    const stream = await open(streams);
    await until('the first event', () => stream.text.includes('data: '));
    const before = stream.text;
    feed.push({ results, asOf: AS_OF + 1_000 });
    await until('it is over', () => stream.isOver);
    expect(stream.text).toBe(before);
    expect(streams.open + feed.listeners.size).toBe(0);
  });

  test('is refused above the limit', async () => {
    const streams = new Streams({ feed, streamsMax: 1 });
    const stream = await open(streams);
    const refused = await createApp(streams).request(PATH);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await problemOf(refused)).toMatchObject({ status: 503, code: 'results_unavailable' });
    await stream.cancel();
    await until('there is room again', () => !streams.isFull);
  });

  test('is not opened by a HEAD request', async () => {
    const streams = new Streams({ feed });
    const response = await createApp(streams).request(PATH, { method: 'HEAD' });
    expect(response.status).toBe(200);
    expect(streams.open).toBe(0);
  });

  test('ends when the process stops, and no other starts', async () => {
    const streams = new Streams({ feed });
    const stream = await open(streams);
    streams.close();
    await until('it is over', () => stream.isOver);
    expect((await createApp(streams).request(PATH)).status).toBe(503);
  });

  test('is closed when its client does not read', async () => {
    const streams = new Streams({ feed, stallMsMax: 50 });
    const response = await createApp(streams).request(PATH);
    let newer = 0;
    await until('it is given up', () => {
      newer += 1;
      const results = someResults({ ledger: { accepted: newer, committed: 3 } });
      feed.push({ results, asOf: AS_OF + newer });
      return streams.open === 0;
    });
    expect(feed.listeners.size).toBe(0);
    await response.body?.cancel();
  });
});
