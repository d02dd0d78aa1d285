import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { commitBatches } from '#db/commit.ts';
import { finalizePoll, recordSeals } from '#db/final.ts';
import { foldReceipts } from '#db/fold.ts';
import { insertNode, writeOffNode } from '#db/nodes.ts';
import { writeOffJobs } from '#db/write-off.ts';
import { FAILURES_MAX } from '#handlers/dashboard/auth.ts';
import { jobKey, sourceName } from '#job';
import { startProvider, type TestProvider } from '#kit/identity.ts';
import { PIXEL_NAME } from '#kit/images.ts';
import { writeEntry } from '#kit/ledger.ts';
import { enrolNode } from '#kit/node.ts';
import { ApiDescription } from '#kit/openapi.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { freePort, scratchFolder } from '#kit/process.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { spawnService, startService, type TestService, VOTER_KEY, voteEnv } from '#kit/system.ts';
import { mirrorEntry, recordClosed } from '#kit/tables.ts';
import { until } from '#kit/until.ts';
import { batch, OTHER_SOURCE, POLL, SOURCE, vote } from '#kit/votes.ts';

/** Described parts that these tests cannot cover, with the reason. */
const NOT_COVERED: Readonly<Record<string, string>> = {
  'castVote 403 Set-Cookie':
    'needs a close between two steps of one request; test/integration/handlers/vote covers it',
};
/** Every operation may answer 500, which needs a bug. */
const INTERNAL = / 500( |$)/;

const EMBARGOED_POLL = 'best-snack';
const NODE = 'ccccccccccccc';
const OPERATOR = { who: 'ada', why: 'its disk died' };
const JSON_TYPE = { 'content-type': 'application/json' };
const FORM_TYPE = { 'content-type': 'application/x-www-form-urlencoded' };
const BROWSER = { accept: 'text/html' };
const BASIC = { authorization: `Basic ${Buffer.from('sre:password1').toString('base64')}` };
const VIEWER = { authorization: `Basic ${Buffer.from('guest:password2').toString('base64')}` };
/** The header of a client that has sent too many wrong passwords. */
const LOCKED_OUT = { 'X-Forwarded-For': '192.0.2.1' };

const api = new ApiDescription();
const cleanups: (() => Promise<unknown>)[] = [];
let database: TestDatabase;
let redis: TestRedis;
let capture: TestService;
let results: TestService;
let dashboard: TestService;
let provider: TestProvider;
let issuer: TestService;
/** An issuer that takes one request of each address. */
let busyIssuer: TestService;
/** Results without a database. */
let blind: Pick<TestService, 'url'>;

beforeAll(async () => {
  const folder = await scratchFolder();
  database = await createDatabase();
  redis = await startRedis();
  cleanups.push(
    () => folder.remove(),
    () => database.remove(),
    () => redis.remove(),
  );
  const choices = [
    { id: 'cats', label: 'Cats', image: PIXEL_NAME },
    { id: 'dogs', label: 'Dogs' },
  ];
  const polls = [
    { id: POLL, question: 'Cats or dogs?', choices },
    { id: 'later', question: 'Later?', choices, opensAt: Date.now() + 3_600_000 },
    { id: 'over', question: 'Over?', choices, closesAt: Date.now() - 1_000 },
  ];
  await enrolNode(redis.client, { polls, id: NODE });
  await fillDatabase();
  const start = async (options: Omit<Parameters<typeof startService>[0], 'folder'>) => {
    const service = await startService({ ...options, folder: folder.path });
    cleanups.push(() => service.end('SIGKILL'));
    return service;
  };
  results = await start({ bundle: 'results', env: { DATABASE_URL: database.url } });
  const linked = { RECEIPTS_URL: results.url };
  capture = await start({ bundle: 'vote', env: { ...voteEnv('frontend', redis.socket), ...linked } });
  provider = await startProvider();
  cleanups.push(() => provider.close());
  const startIssuer = (name: string, rateMax: number) =>
    start({
      bundle: 'issuer',
      name,
      env: { ...linked, ...provider.env, VOTER_KEY, TOKEN_RATE_MAX: String(rateMax) },
    });
  issuer = await startIssuer('issuer', 0);
  busyIssuer = await startIssuer('busy-issuer', 1);
  dashboard = await start({
    bundle: 'dashboard',
    env: {
      ...linked,
      DATABASE_URL: database.url,
      QUEUE_NODES: redis.socket,
      DASHBOARD_USERS: 'sre:password1,viewer/guest:password2',
    },
  });
  const nowhere = `postgres://turnout@127.0.0.1:${await freePort()}/nothing`;
  const unready = await spawnService({
    bundle: 'results',
    name: 'blind',
    env: { ...linked, DATABASE_URL: nowhere },
    folder: folder.path,
  });
  cleanups.push(() => unready.end('SIGKILL'));
  blind = unready;
});
afterAll(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
});

/** One poll that is final without a node and a job that were written off, and one that is closed and awaits a node. */
async function fillDatabase(): Promise<void> {
  const { db } = database;
  const [node, other] = [SOURCE, OTHER_SOURCE].map((source) => source.split('.')[0]?.split('-').at(-1) ?? '');
  await mirrorEntry(db, SOURCE, { seq: 2, votes: 3 });
  await mirrorEntry(db, OTHER_SOURCE, { seq: 1, votes: 1 });
  await commitBatches(db, [batch(1, [vote(1, 'cats', 0), vote(2, 'dogs', 0)])], 0);
  expect(await writeOffJobs(db, [{ source: SOURCE, seq: 2 }], OPERATOR)).toEqual({ outcome: 'done' });
  while ((await foldReceipts(db)) > 0);
  await db.updateTable('polls').set({ closed_at: new Date() }).execute();
  await db.updateTable('polls').set({ results: 'closed' }).where('id', '=', EMBARGOED_POLL).execute();
  await recordClosed(db, [{ nodeId: node ?? '', poll: POLL, revision: 1 }]);
  await recordSeals(db, [{ source: SOURCE, poll: POLL, revision: 1, seq: 2 }]);
  expect(await writeOffNode(db, other ?? '', OPERATOR)).toBe('done');
  expect(await finalizePoll(db, POLL)).toBe(true);
  await mirrorEntry(db, SOURCE, { seq: 3, votes: 4 });
  // Two nodes of one name.
  for (const id of ['ddddddddddddd', 'eeeeeeeeeeeee']) {
    await insertNode(db, id);
    await mirrorEntry(db, sourceName('twin', id, 't0-1'), { seq: 0, votes: 0 });
  }
}

const votes = (poll = POLL) => `${capture.url}/polls/${poll}/votes`;
const post = (url: string, body: string, headers: Record<string, string>) =>
  fetch(url, { method: 'POST', body, headers, redirect: 'manual' });
const get = (url: string, headers: Record<string, string> = {}) => fetch(url, { headers });

describe('the vote handler', () => {
  test('answers votes and polls as described, and links each vote to its receipt', async () => {
    for (const [body, headers] of [
      ['{"choice":"cats"}', JSON_TYPE],
      ['choice=cats', FORM_TYPE],
    ] as const) {
      const response = await post(votes(), body, headers);
      const location = response.headers.get('location');
      const { receipt } = (await api.accept('castVote', response)) as { receipt: string };
      expect(response.status).toBe(202);
      expect(location).toBe(`${results.url}/receipts/${receipt}`);
    }
    const redirect = await post(votes(), 'choice=cats', { ...FORM_TYPE, ...BROWSER });
    await api.accept('castVote', redirect);
    expect(redirect.status).toBe(303);
    for (const [id, ending] of [
      ['getPoll', '.json'],
      ['getPollPage', ''],
      ['getBallotPage', '/ballot'],
    ] as const) {
      await api.accept(id, await get(`${capture.url}/polls/${POLL}${ending}`));
      const url = `${capture.url}/polls/birds${ending}`;
      for (const headers of [{}, BROWSER]) await api.accept(id, await get(url, headers));
    }
    for (const [id, ending] of [
      ['getPoll', '.json'],
      ['getPollPage', ''],
    ] as const) {
      const url = `${capture.url}/polls/${POLL}${ending}`;
      const etag = (await get(url)).headers.get('etag') ?? '';
      await api.accept(id, await get(url, { 'if-none-match': etag }));
    }
  });

  test.each<[string, number, string, string, Record<string, string>]>([
    ['malformed', 400, POLL, 'chioce=cats', FORM_TYPE],
    ['bad_voter_token', 401, POLL, 'choice=cats', { ...FORM_TYPE, authorization: 'Bearer forged' }],
    ['cross_site', 403, POLL, 'choice=cats', { ...FORM_TYPE, origin: 'http://evil.test' }],
    ['poll_not_open', 403, 'later', 'choice=cats', FORM_TYPE],
    ['poll_closed', 403, 'over', 'choice=cats', FORM_TYPE],
    ['unknown_poll', 404, 'birds', 'choice=cats', FORM_TYPE],
    ['too_large', 413, POLL, `choice=${'x'.repeat(1_100)}`, FORM_TYPE],
    ['unsupported_media_type', 415, POLL, 'cats', { 'content-type': 'text/plain' }],
    ['unknown_choice', 422, POLL, 'choice=birds', FORM_TYPE],
  ])(
    'answers %s as described, to programs and browsers, with a type that documents it',
    async (code, status, poll, body, headers) => {
      const response = await post(votes(poll), body, headers);
      const problem = (await api.accept('castVote', response)) as { code: string; type: string };
      expect(problem).toMatchObject({ status, code });
      expect(await (await get(problem.type)).text()).toContain(`<code>${code}</code>`);
      const page = await post(votes(poll), body, { ...headers, ...BROWSER });
      await api.accept('castVote', page);
      expect(page.status).toBe(status);
    },
  );

  test('answers other methods and an unavailable Redis as described', async () => {
    for (const headers of [{}, BROWSER]) {
      const response = await get(votes(), headers);
      expect(response.status).toBe(405);
      await api.accept('castVote', response);
    }
    await redis.down('SIGKILL');
    try {
      for (const headers of [JSON_TYPE, { ...FORM_TYPE, ...BROWSER }]) {
        const body = headers === JSON_TYPE ? '{"choice":"cats"}' : 'choice=cats';
        const response = await post(votes(), body, headers);
        expect(response.status).toBe(503);
        await api.accept('castVote', response);
      }
    } finally {
      await redis.up();
    }
    await until('votes are accepted again', async () => (await post(votes(), 'choice=cats', FORM_TYPE)).ok);
  });
});

describe('the issuer', () => {
  const ask = (credential: string, headers = {}, { url } = issuer) =>
    post(`${url}/tokens`, JSON.stringify({ credential }), { ...JSON_TYPE, ...headers });

  test('answers tokens as described, to programs and browsers', async () => {
    const response = await ask(await provider.sign());
    await api.accept('issueToken', response);
    expect(response.status).toBe(201);
    const form = new URLSearchParams({ credential: await provider.sign() }).toString();
    const redirect = await post(`${issuer.url}/tokens`, form, { ...FORM_TYPE, ...BROWSER });
    await api.accept('issueToken', redirect);
    expect(redirect.status).toBe(303);
  });

  test('answers its refusals as described', async () => {
    const refusals: [number, string, Response][] = [
      [400, 'malformed', await ask('')],
      [401, 'bad_credentials', await ask(await provider.sign({ aud: 'another-show' }))],
      [403, 'cross_site', await ask('any', { origin: 'http://evil.test' })],
      [405, 'method_not_allowed', await get(`${issuer.url}/tokens`)],
      [413, 'too_large', await ask('x'.repeat(20_000))],
      [415, 'unsupported_media_type', await ask('any', { 'content-type': 'text/plain' })],
    ];
    provider.fault = 'error';
    refusals.push([503, 'not_issued', await ask(await provider.sign(), {}, busyIssuer)]);
    refusals.push([429, 'too_many', await ask(await provider.sign(), {}, busyIssuer)]);
    provider.fault = undefined;
    for (const [status, code, response] of refusals) {
      const problem = await api.accept('issueToken', response);
      expect(problem).toMatchObject({ status, code, type: `${results.url}/problems/${code}` });
    }
  });
});

describe('the results handler', () => {
  const paths = {
    getResults: 'results',
    getResultsAsCsv: 'results.csv',
    getEvidence: 'results/evidence',
  } as const;

  test('answers results and evidence as described, with entity tags', async () => {
    for (const [id, path] of Object.entries(paths)) {
      const url = `${results.url}/polls/${POLL}/${path}`;
      const response = await get(url);
      const tag = response.headers.get('etag') ?? '';
      await api.accept(id, response);
      expect(response.status, id).toBe(200);
      await until('a snapshot is asked for twice', async () => {
        const { headers } = await get(url);
        const again = await get(url, { 'If-None-Match': headers.get('etag') ?? tag });
        if (again.status !== 304) return false;
        await api.accept(id, again);
        return true;
      });
      await api.accept(id, await get(`${results.url}/polls/birds/${path}`));
    }
  });

  test('answers 403 as described for an embargoed result', async () => {
    const { getEvidence: _, ...shown } = { ...paths, streamResults: 'results/stream' };
    for (const [id, path] of Object.entries(shown)) {
      const response = await get(`${results.url}/polls/${EMBARGOED_POLL}/${path}`);
      expect(await api.accept(id, response)).toMatchObject({ status: 403, code: 'embargoed' });
    }
  });

  test('answers 404 not_final for the evidence of a poll that is closed and not final', async () => {
    const response = await get(`${results.url}/polls/${EMBARGOED_POLL}/results/evidence`);
    expect(await api.accept('getEvidence', response)).toMatchObject({ status: 404, code: 'not_final' });
  });

  test('proves by the evidence that a counted receipt is in the final result', async () => {
    const url = `${results.url}/polls/${POLL}/results/evidence`;
    const evidence = await api.accept('getEvidence', await get(url));
    expect(evidence).toMatchObject({
      revision: 1,
      choices: [{ votes: 1 }, { votes: 1 }],
      sources: [{ source: SOURCE, lastJob: 2 }],
      writtenOff: [{ node: 'bbbbbbbbbbbbb', name: 'other', reason: OPERATOR.why }],
      writtenOffJobs: [
        { node: 'aaaaaaaaaaaaa', name: 'node', reason: OPERATOR.why, jobs: [jobKey(SOURCE, 2)] },
      ],
    });
  });

  test('streams results as described', async () => {
    const stop = new AbortController();
    const response = await fetch(`${results.url}/polls/${POLL}/results/stream`, { signal: stop.signal });
    const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    while (reader && !text.includes('\n\n')) text += (await reader.read()).value ?? '';
    stop.abort();
    const { status, headers } = response;
    await api.accept('streamResults', new Response(text, { status, headers }));
    const [, data = ''] = /^data: (.+)$/m.exec(text) ?? [];
    api.validate('/components/schemas/Results', JSON.parse(data));
    await api.accept('streamResults', await get(`${results.url}/polls/birds/results/stream`));
  });

  test('answers every status of a receipt as described', async () => {
    for (const [receipt, status] of [
      [jobKey(SOURCE, 1), 'counted'],
      [jobKey(SOURCE, 2), 'written_off'],
      [jobKey(SOURCE, 3), 'pending'],
      ['nonsense', 'unknown'],
    ]) {
      const response = await get(`${results.url}/receipts/${receipt}`);
      expect(await api.accept('getReceipt', response)).toEqual({ receipt, status });
    }
    await api.accept('getReceipt', await get(`${results.url}/receipts/nonsense`, { Accept: 'text/html' }));
  });

  test('serves this description and the pages of problems, with entity tags', async () => {
    const described = `${results.url}/openapi.json`;
    expect(await api.accept('getDescription', await get(described))).toEqual(api.document);
    const page = `${results.url}/problems/poll_closed`;
    await api.accept('getProblem', await get(page));
    await api.accept('getProblem', await get(`${results.url}/problems/nonsense`));
    for (const [id, url] of [
      ['getDescription', described],
      ['getProblem', page],
    ] as const) {
      const tag = (await get(url)).headers.get('etag') ?? '';
      const again = await get(url, { 'If-None-Match': tag });
      expect(again.status).toBe(304);
      await api.accept(id, again);
    }
  });

  test('answers 503 as described while there is no database', async () => {
    await until('it listens', async () => (await get(`${blind.url}/problems/poll_closed`)).ok);
    for (const [id, path] of Object.entries({
      ...paths,
      streamResults: 'results/stream',
    })) {
      const response = await get(`${blind.url}/polls/${POLL}/${path}`);
      expect(response.status, id).toBe(503);
      await api.accept(id, response);
    }
    await api.accept('getReceipt', await get(`${blind.url}/receipts/${jobKey(SOURCE, 1)}`));
  });
});

describe('the dashboard', () => {
  test('locks out an address that guesses', async () => {
    const guess = { authorization: `Basic ${Buffer.from('sre:wrong').toString('base64')}`, ...LOCKED_OUT };
    for (let attempt = 0; attempt < FAILURES_MAX; attempt += 1) {
      expect((await get(`${dashboard.url}/ledger`, guess)).status).toBe(401);
    }
    expect((await get(`${dashboard.url}/ledger`, guess)).status).toBe(429);
  });

  test('answers the audit as described, to operators only', async () => {
    await writeEntry(redis.client, OTHER_SOURCE, { seq: 1, votes: 1 });
    await until('the audit shows a source on a foreign node', async () => {
      const response = await get(`${dashboard.url}/ledger`, BASIC);
      const { foreign } = (await api.accept('getLedger', response)) as { foreign: unknown[] };
      return foreign.length > 0;
    });
    await api.accept('getLedger', await get(`${dashboard.url}/ledger`));
    await api.accept('getLedger', await get(`${dashboard.url}/ledger`, { ...BASIC, ...LOCKED_OUT }));
  });

  const change = (node: string, action: string, headers: Record<string, string>, reason = 'it burned') =>
    post(`${dashboard.url}/nodes/${node}/${action}`, JSON.stringify({ reason }), {
      ...JSON_TYPE,
      ...BASIC,
      ...headers,
    });

  test.each([
    ['retireNode', 'retire', 'other'],
    ['writeOffNode', 'write-off', 'node'],
  ])('answers %s and its refusals as described', async (id, action, node) => {
    const refusals: [number, string, Response][] = [
      [400, 'missing_reason', await change(node, action, {}, ' ')],
      [401, 'unauthorized', await change(node, action, { authorization: 'Basic nobody' })],
      [403, 'viewer', await change(node, action, VIEWER)],
      [403, 'cross_site', await change(node, action, { origin: 'http://evil.test' })],
      [429, 'too_many', await change(node, action, LOCKED_OUT)],
      [404, 'unknown_node', await change('zebra', action, {})],
      [409, 'ambiguous_node', await change('twin', action, {})],
      [413, 'too_large', await change(node, action, {}, 'x'.repeat(5_000))],
    ];
    for (const [status, code, response] of refusals) {
      const problem = await api.accept(id, response);
      expect(problem).toMatchObject({ status, code, type: `${results.url}/problems/${code}` });
    }
    expect((await api.accept(id, await change(node, action, {}))) as object).toMatchObject({ node });
    const redirect = await change(node, action, BROWSER);
    expect(redirect.status).toBe(303);
    await api.accept(id, redirect);
  });

  const writeOff = (jobs: string, headers: Record<string, string> = {}) =>
    post(`${dashboard.url}/jobs/write-off`, JSON.stringify({ jobs, reason: 'it vanished' }), {
      ...JSON_TYPE,
      ...BASIC,
      ...headers,
    });

  test('answers a write-off of jobs and its refusals as described', async () => {
    const source = sourceName('frontend', NODE, 't0-9');
    const lost = Array.from({ length: 20 }, (_, index) => jobKey(source, index + 1));
    const [first = '', second = '', ...others] = lost;
    await writeEntry(redis.client, source, { seq: lost.length, votes: lost.length });
    await until('the audit shows the jobs as lost', async () => {
      const response = await get(`${dashboard.url}/ledger`, BASIC);
      return (await response.text()).includes(`"${source}"`);
    });
    const bare = { ...JSON_TYPE, ...BASIC };
    const refusals: [number, string, Response][] = [
      [400, 'missing_reason', await post(`${dashboard.url}/jobs/write-off`, '{}', bare)],
      [400, 'invalid_jobs', await writeOff('nonsense')],
      [401, 'unauthorized', await writeOff(first, { authorization: 'Basic nobody' })],
      [403, 'viewer', await writeOff(first, VIEWER)],
      [403, 'cross_site', await writeOff(first, { origin: 'http://evil.test' })],
      [429, 'too_many', await writeOff(first, LOCKED_OUT)],
      [404, 'unknown_job', await writeOff(first)],
      [409, 'not_at_fault', await writeOff(jobKey(SOURCE, 1))],
      [413, 'too_large', await writeOff('x'.repeat(40_000))],
    ];
    for (const [status, code, response] of refusals) {
      expect(await api.accept('writeOffJobs', response)).toMatchObject({ status, code });
    }

    await mirrorEntry(database.db, source, { seq: lost.length, votes: lost.length });
    const done = await api.accept('writeOffJobs', await writeOff(first));
    expect(done).toEqual({ jobs: [first], status: 'written off' });
    await api.accept('writeOffJobs', await writeOff(second, BROWSER));
    await api.accept('getLedger', await get(`${dashboard.url}/ledger`, BASIC));

    // A job that is counted after the audit named it as lost; the next one if the audit was read anew in between.
    await until('a job is counted in the meantime', async () => {
      const key = others.shift() ?? '';
      await get(`${dashboard.url}/ledger`, BASIC);
      await commitBatches(
        database.db,
        [batch(Number(key.split('.').at(-1)), [vote(9, 'cats', 0)], source)],
        0,
      );
      const response = await writeOff(key);
      const { code } = (await api.accept('writeOffJobs', response)) as { code: string };
      return code === 'job_counted';
    });
  });

  test('answers 409 still_reachable as described', async () => {
    const problem = await api.accept('writeOffNode', await change(NODE, 'write-off', {}));
    expect(problem).toMatchObject({ status: 409, code: 'still_reachable' });
  });
});

describe('the polls of the dashboard', () => {
  const SHOW = 'best-snack';
  const change = (action: string, fields: object = {}, headers = {}, poll = SHOW) =>
    post(`${dashboard.url}/polls/${poll}/${action}`, JSON.stringify({ reason: 'the host', ...fields }), {
      ...JSON_TYPE,
      ...BASIC,
      ...headers,
    });
  const operations = [
    ['openPoll', 'open', {}],
    ['closePoll', 'close', {}],
    ['extendPoll', 'extend', { minutes: 5 }],
    ['embargoPoll', 'embargo', { results: 'live' }],
    ['forgetPoll', 'forget', {}],
  ] as const;

  test('are answered as described, to operators only', async () => {
    const response = await get(`${dashboard.url}/polls`, BASIC);
    expect(await api.accept('getPolls', response)).toHaveLength(2);
    await api.accept('getPolls', await get(`${dashboard.url}/polls`));
    await api.accept('getPolls', await get(`${dashboard.url}/polls`, { ...BASIC, ...LOCKED_OUT }));
  });

  test.each(operations)('%s and its refusals are answered as described', async (id, action, fields) => {
    const refusals: [number, string, Response][] = [
      [400, 'missing_reason', await change(action, { ...fields, reason: ' ' })],
      [401, 'unauthorized', await change(action, fields, { authorization: 'Basic nobody' })],
      [403, 'viewer', await change(action, fields, VIEWER)],
      [403, 'cross_site', await change(action, fields, { origin: 'http://evil.test' })],
      [429, 'too_many', await change(action, fields, LOCKED_OUT)],
      [404, 'unknown_poll', await change(action, fields, {}, 'birds')],
      [413, 'too_large', await change(action, { ...fields, reason: 'x'.repeat(5_000) })],
    ];
    for (const [status, code, response] of refusals) {
      expect(await api.accept(id, response)).toMatchObject({ status, code });
    }
    if (action === 'forget') return;
    expect(await api.accept(id, await change(action, fields))).toMatchObject({ status: 'done' });
    const again = await change(action, fields, BROWSER);
    expect(again.status).toBe(303);
    await api.accept(id, again);
  });

  test('what does not fit the state of a poll is refused as described', async () => {
    const refusals: [string, number, string, Response][] = [
      ['extendPoll', 400, 'invalid_time', await change('extend')],
      ['embargoPoll', 400, 'invalid_results', await change('embargo')],
      ['openPoll', 409, 'poll_final', await change('open', {}, {}, POLL)],
      ['extendPoll', 409, 'poll_final', await change('extend', { minutes: 5 }, {}, POLL)],
      ['embargoPoll', 409, 'poll_final', await change('embargo', { results: 'live' }, {}, POLL)],
      ['extendPoll', 409, 'invalid_change', await change('extend', { closesAt: '2001-01-01T00:00:00Z' })],
      ['forgetPoll', 409, 'invalid_change', await change('forget')],
    ];
    for (const [id, status, code, response] of refusals) {
      expect(await api.accept(id, response)).toMatchObject({ status, code });
    }
    for (const headers of [{}, {}, BROWSER]) {
      await api.accept('forgetPoll', await change('forget', {}, headers, POLL));
    }
    for (const [id, action] of [
      ['openPoll', 'open'],
      ['openPoll', 'open'],
      ['closePoll', 'close'],
      ['closePoll', 'close'],
    ] as const) {
      await api.accept(id, await change(action));
    }
    for (const results of ['closed', 'closed'])
      await api.accept('embargoPoll', await change('embargo', { results }));
    const closesAt = new Date(Date.now() + 3_600_000).toISOString();
    for (const time of [closesAt, closesAt])
      await api.accept('extendPoll', await change('extend', { closesAt: time }));
    await api.accept('getPolls', await get(`${dashboard.url}/polls`, BASIC));
  });
});

test('every part of the description was covered, or is listed with a reason', () => {
  const uncovered = api.uncovered.filter((part) => !INTERNAL.test(part));
  expect(uncovered).toEqual(Object.keys(NOT_COVERED).toSorted());
});
