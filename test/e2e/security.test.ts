import { writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createVoterTokens } from '#handlers/vote/voter.ts';
import { CHROMIUM, startBrowser } from '#kit/browser.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { scratchFolder } from '#kit/process.ts';
import { ask, sendBytes, statusesOf } from '#kit/raw-http.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { startService, type TestService, VOTER_KEY, voteEnv } from '#kit/system.ts';
import { storedVotes } from '#kit/tables.ts';
import { until } from '#kit/until.ts';
import { Secret } from '#runtime/secret.ts';

const POLL = 'cats-vs-dogs';
const VOTES = `/polls/${POLL}/votes`;
const HOUR_US = 3_600_000_000;
const PASSWORD = 'a-password-for-ann';
const ANN = { authorization: `Basic ${Buffer.from(`ann:${PASSWORD}`).toString('base64')}` };
const JSON_TYPE = { 'content-type': 'application/json' };
const FORM_TYPE = { 'content-type': 'application/x-www-form-urlencoded' };

/** All that an operator may write freely into the polls file, as hostile as it gets. */
const HOSTILE = [
  '<script>window.pwned=1</script>',
  '"><img src=x onerror=window.pwned=1>',
  '</title></style><svg onload=window.pwned=1>',
  "'); drop table votes; --",
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is what it looks like
  '${window.pwned=1}{{7*7}}',
  '=HYPERLINK("http://evil.test","Cats")',
  '\u2028\u2029&lt;b&gt;\u0007',
];
const POLLS = {
  polls: [
    {
      id: POLL,
      question: 'Cats or dogs?',
      choices: [
        { id: 'cats', label: 'Cats' },
        { id: 'dogs', label: 'Dogs' },
      ],
    },
    ...HOSTILE.map((question, place) => ({
      id: `hostile-${place}`,
      question,
      choices: HOSTILE.map((label, index) => ({ id: `choice-${index}`, label })),
    })),
  ],
};
/** Markup that must never reach a page as markup. */
const MARKUP = /<script>window|<img src=x|<svg onload/i;
/** What tells a stranger how we are built. */
const INTERNALS =
  /\bat [^ ]+ ?\(?[^ )]*:\d+:\d+|node_modules|node:internal|\.mjs\b|\.ts:\d|\/work\/|\/dist\/|Error:/;

const tokens = createVoterTokens(new Secret(VOTER_KEY));

let database: TestDatabase;
let folder: Awaited<ReturnType<typeof scratchFolder>>;
let redis: TestRedis;
let other: TestRedis;
let vote: TestService;
let secondVote: TestService;
let worker: TestService;
let results: TestService;
let dashboard: TestService;

beforeAll(async () => {
  database = await createDatabase();
  folder = await scratchFolder();
  [redis, other] = await Promise.all([startRedis(), startRedis()]);
  const pollsFile = join(folder.path, 'polls.json');
  await writeFile(pollsFile, JSON.stringify(POLLS));
  const start = (
    bundle: 'vote' | 'worker' | 'results' | 'dashboard',
    env: Record<string, string>,
    name: string = bundle,
  ) => startService({ bundle, name, folder: folder.path, env: { POLLS_FILE: pollsFile, ...env } });
  const counting = { DATABASE_URL: database.url, QUEUE_NODES: `${redis.socket},${other.socket}` };
  [vote, secondVote, worker, results, dashboard] = await Promise.all([
    start('vote', voteEnv('one', redis.socket)),
    start('vote', voteEnv('two', other.socket), 'second-vote'),
    start('worker', counting),
    start('results', counting),
    start('dashboard', { ...counting, DASHBOARD_USERS: `ann:${PASSWORD}` }),
  ]);
});
afterAll(async () => {
  await Promise.all([vote, secondVote, worker, results, dashboard].map((service) => service?.end()));
  await Promise.all([redis, other].map((node) => node?.remove()));
  await database?.remove();
  await folder?.remove();
});

async function votesCaptured(): Promise<number> {
  const ledgers = await Promise.all([redis, other].map((node) => node.client.hgetall('turnout:ledger')));
  const entries = ledgers.flatMap((ledger) => Object.values(ledger));
  return entries.reduce((sum, entry) => sum + Number(entry.split(':')[1]), 0);
}

/** By the first handler. */
async function requestsRefused(): Promise<number> {
  const { body } = await ask(vote.adminUrl, '/metrics');
  const counts = body.matchAll(/^turnout_vote_problems_total\{.*\} (\d+)$/gm);
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0);
}

async function untilAllCounted(): Promise<void> {
  await until('all captured votes are committed', async () => {
    const rows = await database.db.selectFrom('committed').select('votes').execute();
    return rows.reduce((sum, { votes }) => sum + votes, 0) === (await votesCaptured());
  });
}

interface Cast {
  readonly status: number;
  readonly castAt: string;
  /** The token that came back. */
  readonly token: string;
}

async function cast(service: TestService, choice: string, token?: string, path = VOTES): Promise<Cast> {
  const headers = { ...JSON_TYPE, ...(token !== undefined && { authorization: `Bearer ${token}` }) };
  const answer = await ask(service.url, path, 'POST', headers, JSON.stringify({ choice }));
  const [cookie = ''] = [answer.headers['set-cookie'] ?? []].flat();
  const { castAt = '' } = JSON.parse(answer.body) as { castAt?: string };
  return { status: answer.status, castAt, token: /turnout_voter=([^;]+)/.exec(cookie)?.[1] ?? '' };
}

const voterOf = (token: string): string => tokens.verify(token)?.id ?? 'not ours';

async function countedChoice(token: string): Promise<string | undefined> {
  await untilAllCounted();
  return (await storedVotes(database.db)).get(`${POLL} ${voterOf(token)}`)?.[2];
}

describe('a forged token', () => {
  test('is refused whichever byte was changed, and captures no vote', async () => {
    const token = tokens.sign(tokens.mint());
    const before = await votesCaptured();
    const bytes = Buffer.from(token, 'base64url');
    const forged = Array.from(bytes.keys(), (place) => {
      const changed = Buffer.from(bytes);
      changed.writeUInt8(changed.readUInt8(place) ^ 1, place);
      return changed.toString('base64url');
    });
    const answers = await Promise.all(forged.map((text) => cast(vote, 'dogs', text)));
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([401]));
    expect(await votesCaptured()).toBe(before);
  });

  test.each<[string, () => string]>([
    ['signed with another key', () => createVoterTokens(new Secret('x'.repeat(64))).sign(tokens.mint())],
    ['with the signature of another voter', () => swap(25)],
    ['with the time of another vote', () => swap(17, 25)],
    ['cut short', () => tokens.sign(tokens.mint()).slice(0, -1)],
    ['cut to its unsigned part', () => tokens.sign(tokens.mint()).slice(0, 34)],
    ['with something behind it', () => `${tokens.sign(tokens.mint())}A`],
    ['twice', () => tokens.sign(tokens.mint()).repeat(2)],
    ['of nothing', () => 'A'.repeat(76)],
    ['with a NUL written out', () => `%00${tokens.sign(tokens.mint()).slice(3)}`],
    ['that is SQL', () => `'%20or%201=1--`],
    ['that is a JSON web token without signature', () => 'eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.'],
  ])('%s is refused as bearer and as cookie', async (_, make) => {
    const before = await votesCaptured();
    const token = make();
    expect((await cast(vote, 'dogs', token)).status).toBe(401);
    const cookie = { ...JSON_TYPE, cookie: `turnout_voter=${token}` };
    expect((await ask(vote.url, VOTES, 'POST', cookie, '{"choice":"dogs"}')).status).toBe(401);
    expect(await votesCaptured()).toBe(before);
  });

  /** A token whose bytes from `start` on are those of another one. */
  function swap(start: number, end?: number): string {
    const mine = Buffer.from(tokens.sign(tokens.mint()), 'base64url');
    const theirs = Buffer.from(tokens.sign({ ...tokens.mint(), lastCastAt: 1 }), 'base64url');
    theirs.copy(mine, start, start, end);
    return mine.toString('base64url');
  }
});

describe('a replayed token', () => {
  test('never creates a second voter, in any number and order', async () => {
    const first = await cast(vote, 'cats');
    const second = await cast(vote, 'dogs', first.token);
    const all = [first.token, second.token, first.token, second.token, first.token];
    for (const token of all)
      expect(voterOf((await cast(vote, 'cats', token)).token)).toBe(voterOf(first.token));
    await untilAllCounted();
    const votes = [...(await storedVotes(database.db)).values()];
    expect(votes.filter(([poll, voter]) => poll === POLL && voter === voterOf(first.token))).toHaveLength(1);
  });

  test('casts a current vote, even if it is an old token', async () => {
    const first = await cast(vote, 'cats');
    const second = await cast(vote, 'dogs', first.token);
    expect(await countedChoice(first.token)).toBe('dogs');
    const replayed = await cast(vote, 'cats', first.token);
    expect([first.castAt, second.castAt, replayed.castAt].toSorted()).toEqual([
      first.castAt,
      second.castAt,
      replayed.castAt,
    ]);
    expect(await countedChoice(first.token)).toBe('cats');
  });

  test('older than the last vote cannot restore an older choice through a node with a slow clock', async () => {
    const first = await cast(vote, 'cats');
    const voter = tokens.verify(first.token) ?? tokens.mint();
    // As from a node whose clock is an hour ahead; the second node takes its time from there.
    const ahead = tokens.sign({ ...voter, lastCastAt: voter.lastCastAt + HOUR_US });
    const last = await cast(secondVote, 'dogs', ahead);
    const replayed = await cast(vote, 'cats', first.token);
    expect(replayed.status).toBe(202);
    expect(replayed.castAt < last.castAt).toBe(true);
    expect(await countedChoice(first.token)).toBe('dogs');
    // With the token that the last vote gave, the voter's next vote counts on the same slow node.
    const next = await cast(vote, 'cats', last.token);
    expect(next.castAt > last.castAt).toBe(true);
    expect(await countedChoice(first.token)).toBe('cats');
  });
});

const HEAD = `POST ${VOTES} HTTP/1.1\r\nHost: vote.test\r\nContent-Type: application/x-www-form-urlencoded\r\n`;
const SENTINEL = 'GET /sentinel HTTP/1.1\r\nHost: vote.test\r\nConnection: close\r\n\r\n';
const HIDDEN = `POST ${VOTES} HTTP/1.1\r\nHost: vote.test\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{"choice":"dogs"}`;
const withLength = (head: string, body: string) => `${head}Content-Length: ${body.length}\r\n\r\n${body}`;
const chunked = (body: string) => `${HEAD}Transfer-Encoding: chunked\r\n\r\n${body}`;

describe('a smuggled request', () => {
  /** After each comes an honest request for nothing: its 404 is the last answer of a connection that was not closed. */
  test.each<[string, string, number[], number]>([
    ['an honest vote', withLength(HEAD, 'choice=cats'), [202, 404], 1],
    ['an honest vote in chunks', chunked('b\r\nchoice=cats\r\n0\r\n\r\n'), [202, 404], 1],
    ['an extension of a chunk', chunked('b;a=b\r\nchoice=cats\r\n0\r\n\r\n'), [202, 404], 1],
    ['trailers', chunked('b\r\nchoice=cats\r\n0\r\nHost: evil.test\r\n\r\n'), [202, 404], 1],
    ['a request in a field of the form', withLength(HEAD, `choice=cats&x=\r\n\r\n${HIDDEN}`), [202, 404], 1],
    [
      'a request in the body of one refused for its path',
      withLength('POST /nowhere HTTP/1.1\r\nHost: vote.test\r\n', HIDDEN),
      [404, 404],
      0,
    ],
    [
      'a request in the body of one refused for its type',
      withLength(`POST ${VOTES} HTTP/1.1\r\nHost: vote.test\r\nContent-Type: text/plain\r\n`, HIDDEN),
      [415, 404],
      0,
    ],
    [
      'a request in the body of a method without one',
      withLength(`DELETE ${VOTES} HTTP/1.1\r\nHost: vote.test\r\n`, HIDDEN),
      [405, 404],
      0,
    ],
    [
      'a request in the body of a GET',
      withLength('GET / HTTP/1.1\r\nHost: vote.test\r\n', HIDDEN),
      [200, 404],
      0,
    ],
    ['a request in a body that is too large', withLength(HEAD, HIDDEN.repeat(20)), [413], 0],
    [
      'chunks, then a length (TE.CL)',
      `${HEAD}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n`,
      [400],
      0,
    ],
    ['a coding nobody knows', `${HEAD}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`, [400], 0],
    ['chunks that are not last', `${HEAD}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`, [400], 0],
    ['a coding with a tab', `${HEAD}Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n`, [400], 0],
    ['a space before the colon', `${HEAD}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n`, [400], 0],
    [
      'two codings and a length',
      `${HEAD}Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n`,
      [400],
      0,
    ],
    [
      'line ends without CR in the head',
      HEAD.replaceAll('\r\n', '\n').concat('Content-Length: 11\n\nchoice=cats'),
      [400],
      0,
    ],
    ['a line end without CR after a header', `${HEAD}X: a\nContent-Length: 11\r\n\r\nchoice=cats`, [400], 0],
    ['a line end without LF after a header', `${HEAD}X: a\rContent-Length: 11\r\n\r\nchoice=cats`, [400], 0],
    ['a folded coding', `${HEAD}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n`, [400], 0],
    ['a folded length', `${HEAD}Content-Length:\r\n 11\r\n\r\nchoice=cats`, [400], 0],
    ['a length with a sign', `${HEAD}Content-Length: +11\r\n\r\nchoice=cats`, [400], 0],
    ['a length below nothing', `${HEAD}Content-Length: -1\r\n\r\nchoice=cats`, [400], 0],
    ['two lengths in one', `${HEAD}Content-Length: 11, 11\r\n\r\nchoice=cats`, [400], 0],
    ['a length beyond counting', `${HEAD}Content-Length: 99999999999999999999\r\n\r\nchoice=cats`, [400], 0],
    ['a chunk in another base', chunked('0xb\r\nchoice=cats\r\n0\r\n\r\n'), [400], 0],
    ['a chunk below nothing', chunked('-b\r\nchoice=cats\r\n0\r\n\r\n'), [400], 0],
    ['a chunk beyond counting', chunked('fffffffffffffffff\r\nchoice=cats\r\n0\r\n\r\n'), [400], 0],
    ['a chunk longer than it says', chunked('a\r\nchoice=cats\r\n0\r\n\r\n'), [400], 0],
    ['a chunk ending without CR', chunked('b\nchoice=cats\n0\n\n'), [400], 0],
    ['an extension without end', chunked(`b;${'a'.repeat(20_000)}\r\nchoice=cats\r\n0\r\n\r\n`), [413], 0],
    ['an old version of HTTP without headers', `GET /\r\n\r\n`, [400], 0],
    ['a version of HTTP that is to come', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', [400], 0],
    ['a space in the path', `GET / /metrics HTTP/1.1\r\nHost: vote.test\r\n\r\n`, [400], 0],
    [
      'two hosts, of which the first counts',
      `GET / HTTP/1.1\r\nHost: vote.test\r\nHost: evil.test\r\n\r\n`,
      [200, 404],
      0,
    ],
  ])('%s is one request or none', async (_, bytes, statuses, votes) => {
    const before = await votesCaptured();
    const answers = await sendBytes(vote.port, `${bytes}${SENTINEL}`);
    expect(statusesOf(answers)).toEqual(statuses);
    expect(await votesCaptured()).toBe(before + votes);
    expect(answers).not.toMatch(INTERNALS);
  });

  test('neither upgrades nor tunnels are accepted', async () => {
    for (const bytes of [
      'CONNECT 127.0.0.1:6379 HTTP/1.1\r\nHost: 127.0.0.1:6379\r\n\r\n',
      `GET / HTTP/1.1\r\nHost: vote.test\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: vote.test\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n`,
    ]) {
      const answers = await sendBytes(vote.port, bytes);
      expect(statusesOf(answers)).not.toContain(101);
      expect(statusesOf(answers).length).toBeLessThanOrEqual(1);
    }
  });

  test('the handler continues to serve', async () => {
    expect((await cast(vote, 'cats')).status).toBe(202);
  });
});

describe('SQL and HTML', () => {
  const strings = [...HOSTILE, "cats' or '1'='1", 'cats; truncate votes', '../../etc/passwd', '%00', '\\'];

  test('in choice, cookie, path or query have no effect and are not echoed', async () => {
    const before = await votesCaptured();
    for (const text of strings) {
      const escaped = encodeURIComponent(text);
      const asked = [
        await ask(vote.url, VOTES, 'POST', JSON_TYPE, JSON.stringify({ choice: text })),
        await ask(vote.url, VOTES, 'POST', { ...FORM_TYPE, accept: 'text/html' }, `choice=${escaped}`),
        await ask(vote.url, `/polls/${escaped}`, 'GET', { accept: 'text/html' }),
        await ask(vote.url, `/polls/${escaped}/votes`, 'POST', JSON_TYPE, '{"choice":"cats"}'),
        await ask(vote.url, `/?poll=${escaped}&${escaped}`, 'GET', {
          accept: 'text/html',
          cookie: `turnout_choice_${POLL}=${escaped}; turnout_choice=${escaped}`,
        }),
        await ask(results.url, `/polls/${escaped}/results`),
        await ask(results.url, `/polls/${escaped}/results.csv?${escaped}`),
        await ask(results.url, `/receipts/${escaped}`),
        await ask(results.url, `/receipts/one.t0-1.1${escaped}`),
        await ask(dashboard.url, `/${escaped}`, 'GET', ANN),
        await ask(dashboard.url, `/queues/api/queues/${escaped}/${escaped}`, 'GET', ANN),
        await ask(dashboard.url, `/queues/api/queues/${escaped}/retry/${escaped}`, 'PUT', ANN),
      ];
      for (const [place, { status, body, headers }] of asked.entries()) {
        expect([200, 400, 401, 403, 404, 422], `${place} ${text}`).toContain(status);
        expect(body).not.toMatch(INTERNALS);
        // Only in JSON may it come back, where it is no markup.
        if (!String(headers['content-type']).includes('json')) expect(body).not.toMatch(MARKUP);
      }
    }
    expect(await votesCaptured()).toBe(before);
    expect((await database.db.selectFrom('polls').selectAll().execute()).length).toBeGreaterThanOrEqual(
      POLLS.polls.length,
    );
  });

  test('in questions and labels are text on every page, and quoted in CSV', async () => {
    for (const [place] of HOSTILE.entries()) {
      const { status } = await cast(vote, `choice-${place}`, undefined, `/polls/hostile-${place}/votes`);
      expect(status).toBe(202);
    }
    await untilAllCounted();
    const html = { accept: 'text/html' };
    const pages = [
      ...(await Promise.all(
        HOSTILE.map((_, place) => ask(vote.url, `/polls/hostile-${place}`, 'GET', html)),
      )),
      await ask(vote.url, '/', 'GET', html),
      await ask(results.url, '/', 'GET', html),
      await ask(dashboard.url, '/', 'GET', { ...ANN, ...html }),
      await ask(dashboard.url, '/queues', 'GET', { ...ANN, ...html }),
    ];
    for (const { status, body, headers } of pages) {
      expect(status).toBe(200);
      expect(body).not.toMatch(MARKUP);
      expect(headers['content-security-policy']).toContain("default-src 'none'");
    }
    expect(pages[0]?.body).toContain('&lt;script&gt;');

    for (const [place, question] of HOSTILE.entries()) {
      const answer = await until('its vote is in the results', async () => {
        const fresh = await ask(results.url, `/polls/hostile-${place}/results`);
        return (JSON.parse(fresh.body) as { total: number }).total === 1 && fresh;
      });
      expect(JSON.parse(answer.body)).toMatchObject({ question: question.trim() });
      expect(answer.headers['content-type']).toContain('application/json');
      expect(answer.headers['x-content-type-options']).toBe('nosniff');
      const table = await ask(results.url, `/polls/hostile-${place}/results.csv`);
      expect(table.headers['content-disposition']).toContain('attachment');
      expect(table.body).not.toMatch(/(^|,)"?=HYPERLINK/m);
    }
  });

  test('in a forged ledger or job are not shown, or shown as text', async () => {
    const evil = '<script>window.pwned=1</script>';
    await other.client.hset('turnout:ledger', { [evil]: '1:1', [`${evil}.t0-1`]: '1:1' });
    try {
      const page = await until('the ledger was read anew', async () => {
        const { body } = await ask(dashboard.url, '/', 'GET', { ...ANN, accept: 'text/html' });
        return body.includes('two.') && body;
      });
      expect(page).not.toMatch(MARKUP);
      expect((await ask(dashboard.url, '/ledger', 'GET', ANN)).body).not.toContain('window.pwned');
    } finally {
      await other.client.hdel('turnout:ledger', evil, `${evil}.t0-1`);
    }
  });
});

describe('a stranger', () => {
  const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND', 'PURGE'];
  const READING = new Set(['GET', 'HEAD']);
  const CLOSED = new Set([401, 403, 404, 405]);
  const EVERYWHERE = [
    '/healthz',
    '/readyz',
    '/metrics',
    '/env',
    '/debug',
    '/admin',
    '/config',
    '/.env',
    '/.git/config',
    '/server-status',
    '/favicon.ico',
    '/robots.txt',
    '/polls',
    '/votes',
    '/receipts',
    '/ledger',
    '/queues',
    '/queues/',
    '/queues/api/queues',
    '/queues/api/queues/pause',
    '/queues/api/redis/stats',
    '/queues/static/favicon-32x32.png',
    '/queues/../ledger',
    '//ledger',
    '/./ledger',
    '/%2e%2e/etc/passwd',
    '/..%2f..%2fetc%2fpasswd',
    '/polls/../../metrics',
    '/static/../../package.json',
    '/vote.mjs',
    '/vote.mjs.map',
    '/node_modules/pg/package.json',
    `/polls/${POLL}/votes/1`,
    `/polls/${POLL}/voters`,
    '/__proto__',
    '/constructor',
  ];

  interface Port {
    readonly name: string;
    readonly service: () => TestService;
    /** What is open, by the contract: path, methods, statuses. */
    readonly open: readonly (readonly [
      path: string,
      methods: readonly string[],
      statuses: readonly number[],
    ])[];
  }
  const reading = [...READING];
  const PORTS: readonly Port[] = [
    {
      name: 'vote',
      service: () => vote,
      open: [
        ['/', reading, [200]],
        [`/polls/${POLL}`, reading, [200]],
        // Without a body there is no vote.
        [VOTES, ['POST'], [415]],
      ],
    },
    {
      name: 'results',
      service: () => results,
      open: [
        ['/', reading, [200]],
        [`/polls/${POLL}/results`, reading, [200]],
        [`/polls/${POLL}/results.csv`, reading, [200]],
        [`/polls/${POLL}/results/stream`, ['HEAD'], [200]],
        ['/receipts/one.t0-1.1', reading, [200]],
      ],
    },
    { name: 'dashboard', service: () => dashboard, open: [] },
  ];

  test.each(PORTS)('reaches only the contract’s paths at $name', async ({ service, open }) => {
    const paths = [...new Set([...open.map(([path]) => path), ...EVERYWHERE])];
    const wrong: string[] = [];
    for (const path of paths) {
      const answers = await Promise.all(
        METHODS.filter((method) => !(path.endsWith('/stream') && method === 'GET')).map(async (method) => ({
          method,
          ...(await ask(service().url, path, method)),
        })),
      );
      for (const { method, status, headers, body } of answers) {
        const contract = open.find(([known, methods]) => known === path && methods.includes(method));
        const isRight = contract ? contract[2].includes(status) : CLOSED.has(status);
        if (!isRight) wrong.push(`${method} ${path} ${status}`);
        if (INTERNALS.test(body)) wrong.push(`${method} ${path} tells: ${body.slice(0, 100)}`);
        if (headers['x-powered-by'] ?? headers['server'])
          wrong.push(`${method} ${path} says what it runs on`);
        if (headers['access-control-allow-origin']) wrong.push(`${method} ${path} lets other sites read`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test('at the dashboard gets 401 for everything, with any forged credentials', async () => {
    const basic = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`;
    for (const authorization of [
      basic('ann:'),
      basic('ann'),
      basic(':'),
      basic(''),
      basic(`ANN:${PASSWORD}`),
      basic(`ann:${PASSWORD} `),
      basic(`ann:${PASSWORD}\0`),
      basic(`bob:${PASSWORD}`),
      basic('__proto__:x'),
      `Bearer ${PASSWORD}`,
      `Basic ann:${PASSWORD}`,
      'Basic',
      `${ANN.authorization}, ${ANN.authorization}`,
    ]) {
      for (const path of ['/', '/ledger', '/queues', '/queues/api/queues', '/nowhere']) {
        expect((await ask(dashboard.url, path, 'GET', { authorization })).status, authorization).toBe(401);
      }
    }
    expect((await ask(dashboard.url, '/ledger', 'GET', ANN)).status).toBe(200);
  });

  test('inside the network finds only GET pages on an admin port', async () => {
    const open = ['/healthz', '/readyz', '/metrics'];
    for (const service of [vote, worker, results, dashboard]) {
      for (const path of [
        ...open,
        '/',
        ...EVERYWHERE.filter((path) => !/^\/(healthz|readyz|startupz|metrics)$|\.\./.test(path)),
      ]) {
        for (const method of METHODS) {
          const { status, body } = await ask(service.adminUrl, path, method);
          const isOpen = open.includes(path) && READING.has(method);
          expect([method, path, isOpen ? [200, 503].includes(status) : status]).toEqual([
            method,
            path,
            isOpen ? true : 404,
          ]);
          expect(body).not.toMatch(INTERNALS);
        }
      }
    }
  });
});

describe.skipIf(!CHROMIUM)('in a real browser (skipped where chromium is not installed)', () => {
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  let attacker: Server;
  let attackerPort: number;

  /** What the other site does as soon as it is looked at. */
  const attacks: Readonly<Record<string, string>> = {
    '/form': `<form method="post" action="TARGET"><input name="choice" value="dogs"></form>
      <script>document.forms[0].submit()</script>`,
    '/form-without-referrer': `<meta name="referrer" content="no-referrer">
      <form method="post" action="TARGET"><input name="choice" value="dogs"></form>
      <script>document.forms[0].submit()</script>`,
    '/form-in-a-sandbox': `<iframe sandbox="allow-forms allow-scripts" name="frame" srcdoc='<form method="post"
      action="TARGET"><input name="choice" value="dogs"></form><script>document.forms[0].submit()</script>'></iframe>`,
    '/text': `<form method="post" action="TARGET" enctype="text/plain"><input name='{"choice":"dogs","x":"'
      value='"}'></form><script>document.forms[0].submit()</script>`,
    '/fetch': `<script>fetch('TARGET', { method: 'POST', mode: 'no-cors', credentials: 'include',
      body: new URLSearchParams({ choice: 'dogs' }) })</script>`,
    '/json': `<script>fetch('TARGET', { method: 'POST', credentials: 'include', body: '{"choice":"dogs"}',
      headers: { 'content-type': 'application/json' } }).catch(() => {})</script>`,
    '/beacon': `<script>navigator.sendBeacon('TARGET', new URLSearchParams({ choice: 'dogs' }));</script>`,
  };

  beforeAll(async () => {
    attacker = createServer((request, response) => {
      const text = attacks[request.url ?? ''] ?? `<iframe id="frame" src="${vote.url}/"></iframe>`;
      response.setHeader('Content-Type', 'text/html');
      response.end(text.replaceAll('TARGET', `${vote.url}${VOTES}`));
    });
    await new Promise<void>((resolve) => attacker.listen(0, resolve));
    attackerPort = (attacker.address() as AddressInfo).port;
    browser = await startBrowser();
    context = await browser.newContext();
    page = await context.newPage();
    await page.goto(vote.url);
    await page.getByRole('button', { name: 'Cats' }).click();
    await page.getByText('Your vote is in').waitFor();
  });
  afterAll(async () => {
    await browser?.close();
    attacker?.closeAllConnections();
    await new Promise((resolve) => attacker?.close(resolve));
  });

  // The address is the same site as ours, so that the voter's cookie goes along; the name is another site.
  const hosts = ['127.0.0.1', 'localhost'];
  const cases = hosts.flatMap((host) => Object.keys(attacks).map((path) => [host, path] as const));
  test.each(cases)('another site at %s cannot vote for its visitor: %s', async (host, path) => {
    const [before, refusedBefore] = [await votesCaptured(), await requestsRefused()];
    await page.goto(`http://${host}:${attackerPort}${path}`);
    await until('the attack arrived and was refused', async () => (await requestsRefused()) > refusedBefore);
    expect(await votesCaptured()).toBe(before);
  });

  test('another site cannot embed the page in a frame', async () => {
    await page.goto(`http://127.0.0.1:${attackerPort}/frame`);
    const frame = await until('the frame has loaded something', () => page.frames()[1]);
    await frame.waitForLoadState();
    expect(await frame.getByRole('button').count()).toBe(0);
  });

  test('the voter can still vote on the real page', async () => {
    await page.goto(vote.url);
    expect(await page.getByRole('button', { name: 'Cats', pressed: true }).count()).toBe(1);
    await page.getByRole('button', { name: 'Dogs' }).click();
    await page.getByText('Your vote is in: Dogs').waitFor();
  });

  test('hostile questions and labels execute nothing on any page', async () => {
    const operator = await browser.newContext({ httpCredentials: { username: 'ann', password: PASSWORD } });
    const visited = await operator.newPage();
    const urls = [
      ...HOSTILE.map((_, place) => `${vote.url}/polls/hostile-${place}`),
      results.url,
      dashboard.url,
      `${dashboard.url}/queues`,
    ];
    for (const url of urls) {
      await visited.goto(url);
      expect(await visited.evaluate('window.pwned'), url).toBeUndefined();
      expect(await visited.locator('img[src="x"], svg[onload]').count(), url).toBe(0);
    }
    await visited.goto(`${vote.url}/polls/hostile-0`);
    expect(await visited.getByRole('heading', { level: 1 }).textContent()).toBe(HOSTILE[0]);
    await operator.close();
  });
});
