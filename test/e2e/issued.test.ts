import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { ROOT } from '#dev/root.ts';
import { createVoterTokens } from '#handlers/vote/voter.ts';
import { CHROMIUM, startBrowser } from '#kit/browser.ts';
import { haproxyIsMissing, service } from '#kit/haproxy.ts';
import { startProvider, startSiteverify, type TestProvider, type TestSiteverify } from '#kit/identity.ts';
import { enrolNode } from '#kit/node.ts';
import { scratchFolder } from '#kit/process.ts';
import { ask } from '#kit/raw-http.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { startService, type TestService, VOTER_KEY, voteEnv } from '#kit/system.ts';
import { until } from '#kit/until.ts';
import { Secret } from '#runtime/secret.ts';
import { startInterlock, type TestInterlock } from '../integration/stack/interlock/interlock.ts';

const VOTES = '/polls/cats-vs-dogs/votes';
const JSON_TYPE = { 'content-type': 'application/json' };
const WIDGET_ORIGIN = 'https://challenges.cloudflare.com';
/** Two sites: one with a challenge, one for the logins of a provider. Chromium resolves both names to this machine. */
const CHALLENGE_HOST = 'localhost';
const LOGIN_HOST = 'login.localhost';
const tokens = createVoterTokens(new Secret(VOTER_KEY));

let folder: Awaited<ReturnType<typeof scratchFolder>>;
let redis: TestRedis;
let siteverify: TestSiteverify;
let provider: TestProvider;
let interlock: TestInterlock;
let company: Server;
let companyOrigin: string;
/** The credential in the form of the company's page. */
let companyCredential = '';
const started: TestService[] = [];

/** The labels of a service in the stack, with the variables replaced. */
function labelsOf(name: 'vote' | 'issuer', host: string, port: number): Record<string, string> {
  const stack = parse(readFileSync(join(ROOT, 'stack/turnout.yml'), 'utf8'), { merge: true }) as {
    services: Record<string, { deploy: { labels: Record<string, string> } }>;
  };
  const { 'com.docker.lb.context_root': root } = stack.services[name]?.deploy.labels ?? {};
  return { hosts: host, port: String(port), ...(root !== undefined && { context_root: root }) };
}

async function startSite(name: string, host: string, env: Record<string, string>): Promise<void> {
  const common = { VOTER_KEY, VOTER_ADMISSION: 'issued', TOKEN_RATE_MAX: '0', ...env };
  for (const bundle of ['vote', 'issuer'] as const) {
    const process = await startService({
      bundle,
      name: `${name}-${bundle}`,
      env: { ...common, ...(bundle === 'vote' && voteEnv(name, redis.socket)) },
      folder: folder.path,
    });
    started.push(process);
    await interlock.deploy(service(`${name}-${bundle}`, labelsOf(bundle, host, process.port)));
    interlock.dns.names.set(`tasks.${name}-${bundle}.net`, ['127.0.0.1']);
  }
  await until(`${host} is routed`, async () => (await interlock.status(host, '/tokens')) === 405);
}

beforeAll(async () => {
  if (haproxyIsMissing) return;
  folder = await scratchFolder();
  redis = await startRedis();
  await enrolNode(redis.client);
  [siteverify, provider, interlock] = await Promise.all([
    startSiteverify(),
    startProvider(),
    startInterlock(),
  ]);
  company = createServer((_request, response) => {
    response.setHeader('Content-Type', 'text/html');
    response.end(`<form method="post" action="http://${LOGIN_HOST}:${interlock.haproxy.port}/tokens">
      <input type="hidden" name="credential" value="${companyCredential}"><button>Vote</button></form>`);
  }).listen(0, '127.0.0.1');
  await once(company, 'listening');
  companyOrigin = `http://127.0.0.1:${(company.address() as AddressInfo).port}`;
  await startSite('challenge', CHALLENGE_HOST, {
    CHALLENGE: 'turnstile:the-sitekey',
    SITEVERIFY_SECRET: 'the-secret',
    SITEVERIFY_URL: siteverify.url,
  });
  await startSite('login', LOGIN_HOST, { ...provider.env, TOKEN_ORIGINS: companyOrigin });
});
afterAll(async () => {
  if (haproxyIsMissing) return;
  await Promise.all(started.map((process) => process.end()));
  company?.closeAllConnections();
  company?.close();
  await interlock?.close();
  await Promise.all([siteverify?.close(), provider?.close()]);
  await redis?.remove();
  await folder?.remove();
});

async function votesCaptured(): Promise<number> {
  const entries = Object.values(await redis.client.hgetall('turnout:ledger'));
  return entries.reduce((sum, entry) => sum + Number(entry.split(':')[1]), 0);
}

const post = (path: string, body: object, headers: Record<string, string> = {}, host = LOGIN_HOST) =>
  ask(interlock.url, path, 'POST', { ...JSON_TYPE, host, ...headers }, JSON.stringify(body));

describe.skipIf(haproxyIsMissing)('a program (skipped where haproxy is not installed)', () => {
  test('exchanges its credential for a token at the voters’ host, and votes with it', async () => {
    const before = await votesCaptured();
    const issued = await post('/tokens', { credential: await provider.sign() });
    expect(issued.status).toBe(201);
    const { token } = JSON.parse(issued.body) as { token: string };
    const vote = await post(VOTES, { choice: 'cats' }, { authorization: `Bearer ${token}` });
    expect(vote.status).toBe(202);
    expect(await votesCaptured()).toBe(before + 1);
  });

  test.each<[string, () => Record<string, string>]>([
    ['without a token', () => ({})],
    ['with a token minted in open mode', () => ({ authorization: `Bearer ${tokens.sign(tokens.mint())}` })],
    ['with such a token as a cookie', () => ({ cookie: `turnout_voter=${tokens.sign(tokens.mint())}` })],
    ['with an idempotency key alone', () => ({ 'idempotency-key': 'a'.repeat(32) })],
  ])('%s gets 401, and no vote is captured', async (_, headersOf) => {
    const before = await votesCaptured();
    const answer = await post(VOTES, { choice: 'cats' }, headersOf());
    expect(answer.status).toBe(401);
    expect(JSON.parse(answer.body)).toMatchObject({ code: 'bad_voter_token' });
    expect(await votesCaptured()).toBe(before);
  });

  test('with a wrong credential gets 401 and no token', async () => {
    const answer = await post('/tokens', { credential: await provider.sign({ aud: 'another-show' }) });
    expect([answer.status, answer.headers['set-cookie']]).toEqual([401, undefined]);
    expect(JSON.parse(answer.body)).toMatchObject({ code: 'bad_credentials' });
  });
});

describe.skipIf(haproxyIsMissing || !CHROMIUM)('a browser (skipped without haproxy and chromium)', () => {
  let browser: Browser;
  beforeAll(async () => {
    browser = await startBrowser();
  });
  afterAll(() => browser?.close());

  const urlOf = (host: string) => `http://${host}:${interlock.haproxy.port}`;

  /** Opens a page in a new profile, in which the widget of the challenge is solved at once if `solves`. */
  async function open(solves: boolean): Promise<{ page: Page; violations: string[] }> {
    const context = await browser.newContext();
    const page = await context.newPage();
    const violations: string[] = [];
    page.on('console', (message) => {
      if (message.text().includes('Content Security Policy')) violations.push(message.text());
    });
    await context.route(`${WIDGET_ORIGIN}/turnstile/v0/api.js`, (route) =>
      route.fulfill({
        contentType: 'text/javascript',
        body: `const input = document.createElement('input');
          input.type = 'hidden'; input.name = 'cf-turnstile-response';
          input.value = '${solves ? siteverify.solve() : ''}';
          document.querySelector('.cf-turnstile').append(input);`,
      }),
    );
    await page.goto(urlOf(CHALLENGE_HOST));
    await page.locator('[name="cf-turnstile-response"]').waitFor({ state: 'attached' });
    return { page, violations };
  }

  const voterIn = async (page: Page) => {
    const cookies = await page.context().cookies();
    return tokens.verify(cookies.find(({ name }) => name === 'turnout_voter')?.value ?? '');
  };

  test('solves the challenge, votes, solves another, and changes its vote as the same voter', async () => {
    const before = await votesCaptured();
    const { page, violations } = await open(true);
    await page.getByRole('button', { name: 'Cats' }).click();
    await page.getByText('Your vote is in: Cats').waitFor();
    const voter = await voterIn(page);
    expect(voter?.isIssued).toBe(true);
    await page.locator('[name="cf-turnstile-response"]').waitFor({ state: 'attached' });
    await page.getByRole('button', { name: 'Dogs' }).click();
    await page.getByText('Your vote is in: Dogs').waitFor();
    expect((await voterIn(page))?.id).toBe(voter?.id);
    expect(await votesCaptured()).toBe(before + 2);
    expect(violations).toEqual([]);
    await page.context().close();
  });

  test('that has not solved the challenge gets a page that says so and shows it again', async () => {
    const before = await votesCaptured();
    const { page } = await open(false);
    await page.getByRole('button', { name: 'Cats' }).click();
    await page.getByText('We could not verify your browser.').waitFor();
    expect(await page.locator('.cf-turnstile').count()).toBe(1);
    expect(await votesCaptured()).toBe(before);
    await page.context().close();
  });

  test('may load script and frames of the challenge’s origin only', async () => {
    const { headers } = await ask(interlock.url, '/', 'GET', { host: CHALLENGE_HOST });
    const policy = String(headers['content-security-policy']).split('; ');
    const sourcesOf = (name: string) =>
      policy
        .find((entry) => entry.startsWith(`${name} `))
        ?.split(' ')
        .slice(1);
    expect(sourcesOf('script-src')).toEqual([expect.stringMatching(/^'sha256-/), WIDGET_ORIGIN]);
    expect(sourcesOf('frame-src')).toEqual([WIDGET_ORIGIN]);
    const login = await ask(interlock.url, '/', 'GET', { host: LOGIN_HOST });
    expect(login.headers['content-security-policy']).not.toContain('https://');
  });

  test('without script comes from the company’s page with its login, and votes', async () => {
    companyCredential = await provider.sign({ sub: 'dora' });
    const context = await browser.newContext({ javaScriptEnabled: false });
    const page = await context.newPage();
    await page.goto(companyOrigin);
    await page.getByRole('button', { name: 'Vote' }).click();
    await page.getByRole('button', { name: 'Cats' }).click();
    await page.getByText('Your vote is in: Cats').waitFor();
    expect((await voterIn(page))?.id).toBe(tokens.derive('login', JSON.stringify([provider.issuer, 'dora'])));
    await context.close();
  });
});
