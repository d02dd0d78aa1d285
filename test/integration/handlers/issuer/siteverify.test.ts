import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createVoterTokens } from '#handlers/vote/voter.ts';
import { startSiteverify, type TestSiteverify } from '#kit/identity.ts';
import { freePort, scratchFolder } from '#kit/process.ts';
import { ask } from '#kit/raw-http.ts';
import { spawnService, startService, type TestService, VOTER_KEY } from '#kit/system.ts';
import { Secret } from '#runtime/secret.ts';

const SECRET = 'the-secret-of-the-service';
const tokens = createVoterTokens(new Secret(VOTER_KEY));

let folder: Awaited<ReturnType<typeof scratchFolder>>;
let service: TestSiteverify;
const issuers = new Map<string, TestService>();

const envOf = (name: string): Record<string, string> => ({
  VOTER_KEY,
  CHALLENGE: `${name}:the-sitekey`,
  SITEVERIFY_SECRET: SECRET,
  SITEVERIFY_URL: service.url,
});

beforeAll(async () => {
  folder = await scratchFolder();
  service = await startSiteverify();
  for (const name of ['turnstile', 'hcaptcha', 'friendlycaptcha']) {
    issuers.set(name, await startService({ bundle: 'issuer', name, env: envOf(name), folder: folder.path }));
  }
});
afterEach(() => {
  service.verdict = undefined;
  service.requests.length = 0;
});
afterAll(async () => {
  await Promise.all([...issuers.values()].map((issuer) => issuer.end()));
  await service?.close();
  await folder?.remove();
});

async function askFor(name: string, credential: string, headers: Record<string, string> = {}) {
  const issuer = issuers.get(name);
  if (!issuer) throw new Error(`no issuer ${name}`);
  const body = String(new URLSearchParams({ credential }));
  const type = { 'content-type': 'application/x-www-form-urlencoded' };
  const answer = await ask(issuer.url, '/tokens', 'POST', { ...type, ...headers }, body);
  const { token = '', code } = JSON.parse(answer.body) as { token?: string; code?: string };
  return { ...answer, token, code, voter: tokens.verify(token) };
}

describe.each(['turnstile', 'hcaptcha', 'friendlycaptcha'])('with %s', (name) => {
  test('each solved challenge is a new voter, and its answer works once', async () => {
    const answer = service.solve();
    const [first, second] = [await askFor(name, answer), await askFor(name, service.solve())];
    expect([first.status, second.status]).toEqual([201, 201]);
    expect(first.voter).toMatchObject({ isIssued: true, lastCastAt: 0 });
    expect(first.voter?.id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7/);
    expect(second.voter?.id).not.toBe(first.voter?.id);
    expect(await askFor(name, answer)).toMatchObject({ status: 401, code: 'bad_credentials', token: '' });
  });

  test('a browser that holds an issued token stays the same voter, one with a minted token does not', async () => {
    const { voter } = await askFor(name, service.solve());
    if (!voter) throw new Error('no token');
    const cookie = (token: string) => ({ cookie: `turnout_voter=${token}` });
    const held = await askFor(name, service.solve(), cookie(tokens.sign({ ...voter, lastCastAt: 7 })));
    expect(held.voter).toEqual({ ...voter, lastCastAt: 7 });
    const minted = tokens.mint();
    const fresh = await askFor(name, service.solve(), cookie(tokens.sign(minted)));
    expect(fresh.voter?.isIssued).toBe(true);
    expect(fresh.voter?.id).not.toBe(minted.id);
    const failed = await askFor(name, 'not solved', cookie(tokens.sign(voter)));
    expect(failed).toMatchObject({ status: 401, token: '' });
  });

  test.each<[string, number, NonNullable<TestSiteverify['verdict']>]>([
    ['a failed challenge', 401, { success: false, 'error-codes': ['invalid-input-response'] }],
    ['a failed challenge without a code', 401, { success: false, 'error-codes': [] }],
    [
      'a failed challenge of Friendly Captcha',
      401,
      { success: false, error: { error_code: 'response_invalid' } },
    ],
    ['a wrong secret', 503, { success: false, 'error-codes': ['invalid-input-secret'] }],
    ['a wrong API key', 503, { success: false, error: { error_code: 'auth_invalid' } }],
    ['an internal error of the service', 503, { success: false, 'error-codes': ['internal-error'] }],
    ['success as a text', 503, { success: 'true' }],
    ['an array', 503, []],
    ['success with a status of 500', 503, 'error'],
    ['a redirect, which would take the secret elsewhere', 503, 'redirect'],
    ['no JSON', 503, 'nonsense'],
    ['more than 64 KiB', 503, { success: true, padding: 'x'.repeat(70_000) }],
    ['nothing', 503, 'silence'],
  ])('the verdict "%s" gets %i', async (_, status, verdict) => {
    service.verdict = verdict;
    const before = performance.now();
    const answer = await askFor(name, service.solve());
    expect(performance.now() - before).toBeLessThan(5_000);
    const code = status === 401 ? 'bad_credentials' : 'not_issued';
    expect(answer).toMatchObject({ status, code, token: '' });
    expect(answer.headers['retry-after'] !== undefined).toBe(status === 503);
  });
});

test('each service gets the secret and the sitekey where it expects them', async () => {
  for (const name of issuers.keys()) await askFor(name, 'answer');
  expect(service.requests).toEqual([
    { fields: { response: 'answer', secret: SECRET }, apiKey: undefined },
    { fields: { response: 'answer', secret: SECRET, sitekey: 'the-sitekey' }, apiKey: undefined },
    { fields: { response: 'answer', sitekey: 'the-sitekey' }, apiKey: SECRET },
  ]);
});

test('an unreachable service gets 503', async () => {
  const env = { ...envOf('turnstile'), SITEVERIFY_URL: `http://127.0.0.1:${await freePort()}` };
  const lonely = await startService({ bundle: 'issuer', name: 'lonely', env, folder: folder.path });
  issuers.set('lonely', lonely);
  expect(await askFor('lonely', 'answer')).toMatchObject({ status: 503, code: 'not_issued' });
  expect(await lonely.output()).toContain('ECONNREFUSED');
});

test('without the settings of a check the process exits with every fault', async () => {
  const spawn = async (name: string, env: Record<string, string>) => {
    const issuer = await spawnService({ bundle: 'issuer', name, env, folder: folder.path });
    await once(issuer.child, 'exit');
    return issuer.output();
  };
  expect(await spawn('no-check', { VOTER_KEY })).toMatch(
    /JWT_KEYS is missing.*JWT_ISSUER is missing.*JWT_AUDIENCE is missing/,
  );
  expect(await spawn('no-secret', { VOTER_KEY, CHALLENGE: 'turnstile:key' })).toMatch(
    /SITEVERIFY_SECRET is missing/,
  );
});

test('a log shows no secret and no answer', async () => {
  const answer = service.solve();
  const { token } = await askFor('turnstile', answer);
  const logs = await Promise.all([...issuers.values()].map((issuer) => issuer.output()));
  for (const secret of [SECRET, VOTER_KEY, answer, token]) expect(logs.join('\n')).not.toContain(secret);
});
