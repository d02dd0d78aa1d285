import { brotliDecompressSync, gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createVoteApp } from '#handlers/vote/app.ts';
import { Capture } from '#handlers/vote/capture.ts';
import { createClock } from '#handlers/vote/clock.ts';
import { VoteQueue } from '#handlers/vote/queue.ts';
import { createVoterTokens } from '#handlers/vote/voter.ts';
import { type Batch, LEDGER_KEY, parseJobKey } from '#job';
import { NO_CLOSED_POLLS } from '#kit/capture.ts';
import { PIXEL, PIXEL_NAME } from '#kit/images.ts';
import { recordLog } from '#kit/log.ts';
import { pollBook } from '#kit/polls.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { until } from '#kit/until.ts';
import { parsePollsFile } from '#runtime/polls.ts';
import { connectFailingFast } from '#runtime/redis.ts';
import { Secret } from '#runtime/secret.ts';

const NOW = Date.UTC(2027, 1, 7, 23, 30);
const SOURCE = 'node-aaaaaaaaaaaaa.t0-1';
const VOTES = '/polls/cats-vs-dogs/votes';
const BALLOT = '/polls/cats-vs-dogs/ballot';
const JSON_TYPE = { 'content-type': 'application/json' };
const FORM_TYPE = { 'content-type': 'application/x-www-form-urlencoded' };
const BROWSER = { ...FORM_TYPE, accept: 'text/html,*/*', 'sec-fetch-site': 'same-origin', host: 'vote.test' };

const choices = [
  { id: 'cats', label: 'Cats' },
  { id: 'dogs', label: '<b>Dogs</b> & "co"' },
];
const { polls } = parsePollsFile(
  JSON.stringify({
    polls: [
      { id: 'cats-vs-dogs', question: 'Cats or <i>dogs</i>?', choices },
      { id: 'later', question: 'Later?', choices, opensAt: new Date(NOW + 1).toISOString() },
      { id: 'over', question: 'Over?', choices, closesAt: new Date(NOW).toISOString() },
      { id: 'now', question: 'Now?', choices, opensAt: new Date(NOW).toISOString() },
      {
        id: 'drawn',
        question: 'Drawn?',
        choices: [{ id: 'cats', label: 'Cats', image: `data:;base64,${PIXEL}` }, ...choices.slice(1)],
      },
    ],
  }),
  'polls.json',
);
const tokens = createVoterTokens(new Secret('k'.repeat(32)));

let redis: TestRedis;
let queue: VoteQueue;
let app: ReturnType<typeof createApp>;

/** @param isLate whether all polls close after a vote for them is validated */
function createApp(admission: 'open' | 'issued' = 'open', isLate = false) {
  const { log } = recordLog();
  const book = pollBook(polls, () => NOW);
  const capture = new Capture({
    source: SOURCE,
    sink: queue,
    polls: { ...NO_CLOSED_POLLS, isClosed: (poll) => isLate || book.isClosed(poll) },
    log,
    votesPerJobMax: 500,
    bufferVotesMax: 1_000,
    onFenced: () => {},
  });
  book.addImage(PIXEL_NAME, Uint8Array.from(Buffer.from(PIXEL, 'base64')));
  return createVoteApp({ polls: book, capture, tokens, clock: createClock(), admission, log });
}

/** Returns all votes in the queue, in the order of their jobs. */
async function queuedVotes() {
  const keys = (await redis.client.lrange('bull:votes:wait', 0, -1)).toReversed();
  const jobs = await Promise.all(keys.map((key) => redis.client.hget(`bull:votes:${key}`, 'data')));
  return jobs.flatMap((data) => (JSON.parse(data ?? '{}') as Batch).votes);
}

function cookieOf(answer: Response, name = 'turnout_voter'): string {
  const cookie = answer.headers.getSetCookie().find((text) => text.startsWith(`${name}=`));
  return cookie?.split(';', 1)[0] ?? '';
}

const post = (path: string, body: string, headers: Record<string, string> = JSON_TYPE) =>
  app.request(path, { method: 'POST', body, headers });

beforeAll(async () => {
  redis = await startRedis();
  queue = new VoteQueue(connectFailingFast({ name: 'r', options: { path: redis.socket } }), recordLog().log);
  await until('the queue is open', () => queue.fault === undefined);
});
beforeEach(async () => {
  await redis.client.flushall();
  await redis.client.hset(LEDGER_KEY, SOURCE, '0:0');
  app = createApp();
});
afterAll(async () => {
  await queue.close();
  await redis.remove();
});

describe('an image of a choice', () => {
  const path = `/images/${PIXEL_NAME}`;

  test('is on the page and in the definition, without a text that would repeat the label', async () => {
    const page = await (await app.request('/polls/drawn')).text();
    expect(page).toContain(`<img src="${path}" alt=""><span>Cats</span></button>`);
    const definition = await (await app.request('/polls/drawn.json')).json();
    expect(definition).toMatchObject({ choices: [{ id: 'cats', label: 'Cats', image: path }, choices[1]] });
  });

  test('is answered with its type, and caches keep it for a year', async () => {
    const answer = await app.request(path);
    expect(Object.fromEntries(answer.headers)).toMatchObject({
      'content-type': 'image/png',
      'cache-control': 'public, max-age=31536000, immutable',
      'x-content-type-options': 'nosniff',
    });
    expect(Buffer.from(await answer.arrayBuffer()).toString('base64')).toBe(PIXEL);
  });

  test('of no poll gets 404, which caches do not keep', async () => {
    const answer = await app.request(`/images/${'0'.repeat(32)}.png`);
    expect(answer.status).toBe(404);
    expect(answer.headers.get('cache-control')).toBe('no-store');
  });
});

describe('POST /polls/{poll}/votes', () => {
  test('answers a JSON vote with 202 once it is in the queue', async () => {
    const answer = await post(VOTES, '{"choice":"cats"}');
    expect(answer.status).toBe(202);
    const body = (await answer.json()) as Record<string, string>;
    expect(Object.keys(body)).toEqual(['status', 'poll', 'choice', 'castAt', 'receipt']);
    expect(body).toMatchObject({ status: 'accepted', poll: 'cats-vs-dogs', choice: 'cats' });
    expect(body['castAt']).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/);
    expect(parseJobKey(body['receipt'] ?? '')?.source).toBe(SOURCE);

    const voter = tokens.verify(cookieOf(answer).slice('turnout_voter='.length));
    expect(await queuedVotes()).toEqual([['cats-vs-dogs', voter?.id, 'cats', voter?.lastCastAt]]);
    const [seq, votes] = (await redis.client.hget('turnout:ledger', SOURCE))?.split(':') ?? [];
    expect(body['receipt']).toBe(`${SOURCE}.${seq}`);
    expect(Number(votes)).toBeGreaterThan(0);
  });

  test('answers a form vote from a program with JSON', async () => {
    const answer = await post(VOTES, 'choice=dogs', FORM_TYPE);
    expect(answer.status).toBe(202);
    expect(answer.headers.get('content-type')).toBe('application/json');
  });

  test('redirects a browser to the page, which then shows the choice', async () => {
    const answer = await post(VOTES, 'choice=dogs', BROWSER);
    expect(answer.status).toBe(303);
    expect(answer.headers.get('location')).toBe('/polls/cats-vs-dogs/ballot');

    const page = await app.request('/polls/cats-vs-dogs/ballot', {
      headers: { accept: 'text/html', cookie: cookieOf(answer, 'turnout_choice_cats-vs-dogs') },
    });
    const text = await page.text();
    expect(text).toMatch(/value="dogs" aria-pressed="true"/);
    expect(text).toMatch(/value="cats" aria-pressed="false"/);
  });

  test('limits the choice cookie to the path of the page that shows it', async () => {
    const pathOf = async (poll: string): Promise<string | undefined> => {
      const answer = await post(`/polls/${poll}/votes`, 'choice=dogs', BROWSER);
      const cookie = answer.headers.getSetCookie().find((text) => text.startsWith('turnout_choice_'));
      return /; Path=([^;]+);/.exec(cookie ?? '')?.[1];
    };
    expect(await pathOf('cats-vs-dogs')).toBe('/polls/cats-vs-dogs/ballot');
    expect(await pathOf('now')).toBe('/polls/now/ballot');
  });

  test('identifies the voter by cookie or bearer token, and orders their votes', async () => {
    const token = tokens.sign({
      id: tokens.mint().id,
      lastCastAt: (NOW + 9_000_000_000) * 1_000,
      isIssued: false,
    });
    const answer = await post(VOTES, '{"choice":"cats"}', {
      ...JSON_TYPE,
      cookie: `a=b; turnout_voter=${token}`,
    });
    const renewed = /turnout_voter=([^;]+)/.exec(answer.headers.get('set-cookie') ?? '')?.[1];
    await post(VOTES, '{"choice":"dogs"}', { ...JSON_TYPE, authorization: `Bearer ${renewed}` });
    const [first, second] = await queuedVotes();
    const voter = tokens.verify(token);
    expect(first?.[1]).toBe(voter?.id);
    expect(second?.[1]).toBe(voter?.id);
    expect(first?.[3]).toBe((voter?.lastCastAt ?? 0) + 1);
    expect(second?.[3]).toBeGreaterThan(first?.[3] ?? 0);
  });

  test('sets an HttpOnly cookie, and makes it Secure behind TLS only', async () => {
    const plain = await post(VOTES, '{"choice":"cats"}');
    expect(plain.headers.get('set-cookie')).toMatch(/; Path=\/; Max-Age=\d+; HttpOnly; SameSite=Lax$/);
    const secure = await post(VOTES, '{"choice":"cats"}', { ...JSON_TYPE, 'x-forwarded-proto': 'https' });
    expect(secure.headers.get('set-cookie')).toMatch(/; HttpOnly; SameSite=Lax; Secure$/);
  });

  test('accepts a chunked body within the limit', async () => {
    const body = new Blob(['{"choice":', '"cats"}']).stream();
    const request = new Request(`http://vote.test${VOTES}`, {
      method: 'POST',
      body,
      headers: JSON_TYPE,
      duplex: 'half',
    });
    expect((await app.request(request)).status).toBe(202);
  });
});

describe('an invalid request', () => {
  const forged = { ...JSON_TYPE, authorization: `Bearer ${'A'.repeat(76)}` };
  const long = 'x'.repeat(1_100);
  test.each<[string, number, string, string, string, Record<string, string>]>([
    ['is not JSON', 400, 'malformed', VOTES, '{"choice":', JSON_TYPE],
    ['is JSON but not an object', 400, 'malformed', VOTES, '[]', JSON_TYPE],
    ['is null', 400, 'malformed', VOTES, 'null', JSON_TYPE],
    ['has no choice', 400, 'malformed', VOTES, '{}', JSON_TYPE],
    ['has a number as choice', 400, 'malformed', VOTES, '{"choice":1}', JSON_TYPE],
    ['has an object as choice', 400, 'malformed', VOTES, '{"choice":{"$ne":1}}', JSON_TYPE],
    ['is an empty body', 400, 'malformed', VOTES, '', JSON_TYPE],
    ['is a form without choice', 400, 'malformed', VOTES, 'chioce=cats', FORM_TYPE],
    ['has a forged token', 401, 'bad_voter_token', VOTES, '{"choice":"cats"}', forged],
    [
      'has a token of another scheme',
      401,
      'bad_voter_token',
      VOTES,
      '{"choice":"cats"}',
      { ...JSON_TYPE, authorization: 'Basic eDp5' },
    ],
    [
      'has a forged cookie',
      401,
      'bad_voter_token',
      VOTES,
      '{"choice":"cats"}',
      { ...JSON_TYPE, cookie: 'turnout_voter=x' },
    ],
    ['comes too early', 403, 'poll_not_open', '/polls/later/votes', '{"choice":"cats"}', JSON_TYPE],
    ['comes too late', 403, 'poll_closed', '/polls/over/votes', '{"choice":"cats"}', JSON_TYPE],
    [
      'comes from another site',
      403,
      'cross_site',
      VOTES,
      'choice=cats',
      { ...FORM_TYPE, 'sec-fetch-site': 'cross-site' },
    ],
    [
      'comes from a sibling site',
      403,
      'cross_site',
      VOTES,
      'choice=cats',
      { ...FORM_TYPE, 'sec-fetch-site': 'same-site' },
    ],
    [
      'has a foreign origin',
      403,
      'cross_site',
      VOTES,
      'choice=cats',
      { ...FORM_TYPE, origin: 'http://evil.test', host: 'vote.test' },
    ],
    [
      'has an opaque origin',
      403,
      'cross_site',
      VOTES,
      'choice=cats',
      { ...FORM_TYPE, origin: 'null', host: 'vote.test' },
    ],
    ['is for an unknown poll', 404, 'unknown_poll', '/polls/birds/votes', '{"choice":"cats"}', JSON_TYPE],
    [
      'is for a poll with a hostile name',
      404,
      'unknown_poll',
      '/polls/__proto__/votes',
      '{"choice":"cats"}',
      JSON_TYPE,
    ],
    ['is too large', 413, 'too_large', VOTES, `{"choice":"cats","x":"${long}"}`, JSON_TYPE],
    ['is too large and a form', 413, 'too_large', VOTES, `choice=${long}`, FORM_TYPE],
    ['is text', 415, 'unsupported_media_type', VOTES, 'cats', { 'content-type': 'text/plain' }],
    [
      'is multipart',
      415,
      'unsupported_media_type',
      VOTES,
      'cats',
      { 'content-type': 'multipart/form-data; boundary=x' },
    ],
    ['names an unknown choice', 422, 'unknown_choice', VOTES, '{"choice":"birds"}', JSON_TYPE],
    ['has a NUL in its choice', 422, 'unknown_choice', VOTES, '{"choice":"cats\\u0000"}', JSON_TYPE],
    [
      'names a property of Object.prototype',
      422,
      'unknown_choice',
      VOTES,
      '{"choice":"constructor"}',
      JSON_TYPE,
    ],
    ['has SQL as its choice', 422, 'unknown_choice', VOTES, "choice=cats'%3b+drop+table+votes--", FORM_TYPE],
  ])('that %s gets %i %s, and nothing is stored', async (_, status, code, path, body, headers) => {
    const answer = await post(path, body, headers);
    expect(answer.status).toBe(status);
    expect(answer.headers.get('content-type')).toBe('application/problem+json');
    const problem = (await answer.json()) as Record<string, unknown>;
    expect(problem).toEqual({
      type: `urn:turnout:problem:${code}`,
      title: expect.any(String) as string,
      status,
      code,
      detail: expect.any(String) as string,
    });
    expect(await redis.client.hgetall(LEDGER_KEY)).toEqual({ [SOURCE]: '0:0' });
    expect(await redis.client.dbsize()).toBe(1);
  });

  test('with an endless chunked body is cut off at the limit', async () => {
    let chunks = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        chunks += 1;
        controller.enqueue(new Uint8Array(512));
      },
    });
    const request = new Request(`http://vote.test${VOTES}`, {
      method: 'POST',
      body: endless,
      headers: JSON_TYPE,
      duplex: 'half',
    });
    expect((await app.request(request)).status).toBe(413);
    expect(chunks).toBeLessThan(10);
  });

  test('from a browser form gets a page with the message', async () => {
    const answer = await post(VOTES, 'choice=birds', BROWSER);
    expect(answer.status).toBe(422);
    expect(answer.headers.get('content-type')).toBe('text/html; charset=UTF-8');
    expect(await answer.text()).toContain('That is not one of the choices.');
  });

  test('with another method gets 405 with the allowed one', async () => {
    const answer = await app.request(VOTES, { method: 'DELETE' });
    expect(answer.status).toBe(405);
    expect(answer.headers.get('allow')).toBe('POST');
  });
});

test('a vote whose poll closes before it is in a job gets 403 poll_closed, with its cookie, and nothing is stored', async () => {
  app = createApp('open', true);
  const answer = await post(VOTES, '{"choice":"cats"}');
  expect(answer.status).toBe(403);
  expect(await answer.json()).toMatchObject({ code: 'poll_closed' });
  expect(cookieOf(answer)).not.toBe('');
  expect(await queuedVotes()).toEqual([]);
});

test('a vote with our own Origin and without Sec-Fetch-Site is accepted', async () => {
  const answer = await post(VOTES, 'choice=cats', {
    ...FORM_TYPE,
    origin: 'https://vote.test',
    host: 'vote.test',
  });
  expect(answer.status).toBe(202);
});

describe('a vote with an Idempotency-Key', () => {
  const KEY = '0190f3a2-aaaa-bbbb';
  const voteWith = (headers: Record<string, string>, choice = 'cats') =>
    post(VOTES, `{"choice":"${choice}"}`, { ...JSON_TYPE, ...headers });

  test('and no token is of the same voter each time, in quotes too', async () => {
    await voteWith({ 'idempotency-key': KEY });
    await voteWith({ 'idempotency-key': `"${KEY}"` }, 'dogs');
    await voteWith({ 'idempotency-key': `${KEY}x` });
    const [first, retry, other] = (await queuedVotes()).map(([, voter]) => voter);
    expect(first).toBe(tokens.derive('idempotency key', KEY));
    expect(retry).toBe(first);
    expect(other).not.toBe(first);
  });

  test('gets a token of that voter, who votes again without the key', async () => {
    const cookie = cookieOf(await voteWith({ 'idempotency-key': KEY }));
    await voteWith({ cookie }, 'dogs');
    const [first, second] = await queuedVotes();
    expect(second?.[1]).toBe(first?.[1]);
    expect(second?.[3]).toBeGreaterThan(first?.[3] ?? Number.NaN);
  });

  test('and a token is of the voter of the token', async () => {
    const voter = tokens.mint();
    await voteWith({ 'idempotency-key': KEY, authorization: `Bearer ${tokens.sign(voter)}` });
    expect((await queuedVotes())[0]?.[1]).toBe(voter.id);
    const forged = await voteWith({ 'idempotency-key': KEY, authorization: 'Bearer forged' });
    expect(forged.status).toBe(401);
  });

  test.each([
    ['of 15 characters', 'a'.repeat(15)],
    ['of 65 characters', 'a'.repeat(65)],
    ['that is empty', ''],
    ['of 16 characters with their quotes', `"${'a'.repeat(14)}"`],
    ['with one quote', `"${'a'.repeat(20)}`],
    ['with a space', `${'a'.repeat(10)} ${'a'.repeat(10)}`],
    ['with a byte outside ASCII', `${'a'.repeat(20)}\u00e4`],
    ['sent twice', `${KEY}, ${KEY}`],
  ])('%s gets 400', async (_, key) => {
    const answer = await voteWith({ 'idempotency-key': key });
    expect([answer.status, await answer.json()]).toEqual([
      400,
      expect.objectContaining({ code: 'malformed' }),
    ]);
    expect(await queuedVotes()).toEqual([]);
  });
});

describe('with admission "issued"', () => {
  const bearer = (token: string) => ({ ...JSON_TYPE, authorization: `Bearer ${token}` });

  test('accepts only a token of the issuer: none that was minted, and no idempotency key', async () => {
    app = createApp('issued');
    const refused = [
      JSON_TYPE,
      bearer(tokens.sign(tokens.mint())),
      { ...JSON_TYPE, 'idempotency-key': 'a'.repeat(32) },
      { ...bearer(tokens.sign(tokens.mint())), 'idempotency-key': 'a'.repeat(32) },
    ];
    for (const headers of refused) {
      const answer = await post(VOTES, '{"choice":"cats"}', headers);
      expect([answer.status, cookieOf(answer)]).toEqual([401, '']);
      expect(await answer.json()).toMatchObject({ code: 'bad_voter_token' });
    }
    expect(await queuedVotes()).toEqual([]);
    const issued = tokens.sign({ ...tokens.mint(), isIssued: true });
    expect((await post(VOTES, '{"choice":"cats"}', bearer(issued))).status).toBe(202);
  });

  test('accepts the token that came back with a vote', async () => {
    app = createApp('issued');
    const voter = { ...tokens.mint(), isIssued: true };
    const first = await post(VOTES, '{"choice":"cats"}', bearer(tokens.sign(voter)));
    const answer = await post(VOTES, 'choice=dogs', { ...BROWSER, cookie: cookieOf(first) });
    expect(answer.status).toBe(303);
    expect((await queuedVotes()).map(([, id]) => id)).toEqual([voter.id, voter.id]);
  });
});

describe('GET', () => {
  test('/ returns the page of the first poll, escaped, with a form that works without script', async () => {
    const answer = await app.request('/', { headers: { accept: 'text/html' } });
    const page = await answer.text();
    expect(page).toContain('<h1>Cats or &lt;i&gt;dogs&lt;/i&gt;?</h1>');
    expect(page).toContain('&lt;b&gt;Dogs&lt;/b&gt; &amp; &quot;co&quot;</span></button>');
    expect(page).toContain('<form method="post" action="/polls/cats-vs-dogs/votes"');
    expect(page).toContain('content="0; url=/polls/cats-vs-dogs/ballot"');
    expect(page.match(/<svg [^>]*aria-hidden="true"/g)).toHaveLength(2);
  });

  test('forbids foreign scripts and frames on a page', async () => {
    const { headers } = await app.request('/');
    expect(headers.get('content-security-policy')).toMatch(/default-src 'none'.*frame-ancestors 'none'/);
    expect(headers.get('x-content-type-options')).toBe('nosniff');
  });

  test.each(['/', '/polls/cats-vs-dogs', '/polls/cats-vs-dogs.json'])(
    'gives everybody the same answer at %s, which caches keep for seconds',
    async (path) => {
      const cookie = `turnout_choice_cats-vs-dogs=dogs; turnout_voter=${tokens.sign(tokens.mint())}`;
      const answers = await Promise.all([
        app.request(path),
        app.request(path, { headers: { accept: 'text/html', cookie } }),
        app.request(path, { headers: { accept: 'application/json' } }),
      ]);
      const first = answers[0] as Response;
      expect(first.headers.get('cache-control')).toMatch(/^public, max-age=5, stale-while-revalidate=5, /);
      expect(first.headers.get('vary')).toBe('Accept-Encoding');
      const texts = await Promise.all(answers.map((answer) => answer.text()));
      expect(new Set(texts).size).toBe(1);
      for (const answer of answers) expect(answer.headers.getSetCookie()).toEqual([]);

      const etag = first.headers.get('etag') ?? '';
      const again = await app.request(path, { headers: { 'if-none-match': `"x", ${etag}` } });
      expect([again.status, await again.text(), again.headers.get('etag')]).toEqual([304, '', etag]);
      for (const [accepted, decode] of [
        ['gzip, deflate, br', brotliDecompressSync],
        ['gzip', gunzipSync],
      ] as const) {
        const packed = await app.request(path, { headers: { 'accept-encoding': accepted } });
        expect(decode(await packed.arrayBuffer()).toString()).toBe(texts[0]);
      }
    },
  );

  test('is not kept beyond the time at which the clock opens or closes a poll', async () => {
    const { headers } = await app.request('/polls/later');
    expect(headers.get('cache-control')).toBe('public, max-age=0');
  });

  test('ignores a choice in the cookie that is not in the poll', async () => {
    const cookie = 'turnout_choice_cats-vs-dogs=%3Cscript%3E';
    const page = await (await app.request(BALLOT, { headers: { accept: 'text/html', cookie } })).text();
    expect(page).not.toContain('%3Cscript');
    expect(page).not.toMatch(/<button[^>]*aria-pressed="true"/);
  });

  test('gives a visitor a token, so that a first vote sent twice counts once', async () => {
    const page = await app.request(BALLOT, { headers: { accept: 'text/html' } });
    expect(page.headers.get('cache-control')).toBe('private, no-store');
    const cookie = cookieOf(page);
    await Promise.all([
      post(VOTES, 'choice=cats', { ...BROWSER, cookie }),
      post(VOTES, 'choice=dogs', { ...BROWSER, cookie }),
    ]);
    const [first, second] = await queuedVotes();
    expect(first?.[1]).toBe(tokens.verify(cookie.slice('turnout_voter='.length))?.id);
    expect(second?.[1]).toBe(first?.[1]);
    expect(second?.[3]).toBeGreaterThan(first?.[3] ?? Number.NaN);
  });

  test('sets no cookie for a visitor with a token, even an invalid one, or with admission "issued"', async () => {
    for (const cookie of [`turnout_voter=${tokens.sign(tokens.mint())}`, 'turnout_voter=x']) {
      const page = await app.request(BALLOT, { headers: { accept: 'text/html', cookie } });
      expect(page.headers.getSetCookie()).toEqual([]);
    }
    const page = await createApp('issued').request(BALLOT, { headers: { accept: 'text/html' } });
    expect(page.headers.getSetCookie()).toEqual([]);
  });

  test('returns the definition of a poll', async () => {
    const answer = await app.request('/polls/later.json');
    expect(await answer.json()).toEqual({
      poll: 'later',
      question: 'Later?',
      choices,
      opensAt: new Date(NOW + 1).toISOString(),
      closesAt: null,
      phase: 'not open',
    });
  });

  test('shows a closed poll with its buttons disabled', async () => {
    const page = await (await app.request('/polls/over', { headers: { accept: 'text/html' } })).text();
    expect(page).toContain('This poll is closed.');
    expect(page.match(/<button[^>]* disabled/g)).toHaveLength(2);
  });

  test('answers 404 for an unknown poll, as JSON or as a page', async () => {
    expect(await (await app.request('/polls/birds')).json()).toMatchObject({ code: 'unknown_poll' });
    const page = await app.request('/polls/birds', { headers: { accept: 'text/html' } });
    expect(page.status).toBe(404);
    expect(page.headers.get('content-type')).toBe('text/html; charset=UTF-8');
  });
});
