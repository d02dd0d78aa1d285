import { generateKeyPairSync } from 'node:crypto';
import { SignJWT, UnsecuredJWT } from 'jose';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createVoterTokens } from '#handlers/vote/voter.ts';
import { createKey, startProvider, type TestFault, type TestProvider } from '#kit/identity.ts';
import { scratchFolder } from '#kit/process.ts';
import { ask } from '#kit/raw-http.ts';
import { startService, type TestService, VOTER_KEY } from '#kit/system.ts';
import { until } from '#kit/until.ts';
import { Secret } from '#runtime/secret.ts';

const JSON_TYPE = { 'content-type': 'application/json' };
const FORM_TYPE = { 'content-type': 'application/x-www-form-urlencoded' };
const TRUSTED = 'https://www.company.test';
const NOW_SECONDS = Math.floor(Date.now() / 1_000);
const tokens = createVoterTokens(new Secret(VOTER_KEY));

let folder: Awaited<ReturnType<typeof scratchFolder>>;
let provider: TestProvider;
let issuer: TestService;
const started: TestService[] = [];

beforeAll(async () => {
  folder = await scratchFolder();
  provider = await startProvider();
  issuer = await start('issuer', { TOKEN_ORIGINS: TRUSTED });
});
afterEach(() => {
  provider.fault = undefined;
});
afterAll(async () => {
  await Promise.all(started.map((service) => service.end()));
  await provider?.close();
  await folder?.remove();
});

async function start(name: string, env: Record<string, string> = {}): Promise<TestService> {
  const common = { VOTER_KEY, TOKEN_RATE_MAX: '0', ...provider.env };
  const service = await startService({
    bundle: 'issuer',
    name,
    env: { ...common, ...env },
    folder: folder.path,
  });
  started.push(service);
  return service;
}

async function askFor(credential: string, headers: Record<string, string> = {}, service = issuer) {
  const body = JSON.stringify({ credential });
  const answer = await ask(service.url, '/tokens', 'POST', { ...JSON_TYPE, ...headers }, body);
  const { token = '', code } = JSON.parse(answer.body) as { token?: string; code?: string };
  return { ...answer, token, code, voter: tokens.verify(token) };
}

describe('a login', () => {
  test('gets 201 with a token of an issued voter, in the body and as the cookie of the pages', async () => {
    const { status, headers, token, voter } = await askFor(await provider.sign());
    expect([status, voter?.isIssued, voter?.lastCastAt]).toEqual([201, true, 0]);
    expect(headers['set-cookie']).toEqual([expect.stringContaining(`turnout_voter=${token}; Path=/`)]);
    expect(headers['cache-control']).toBe('no-store');
  });

  test('is one voter however often it asks, at every issuer', async () => {
    const another = await start('another');
    const answers = [
      await askFor(await provider.sign()),
      await askFor(await provider.sign({ jti: 'another session' })),
      await askFor(await provider.sign(), {}, another),
    ];
    const [first, ...others] = answers.map(({ voter }) => voter?.id);
    expect(first).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(others).toEqual([first, first]);
    const { voter: bob } = await askFor(await provider.sign({ sub: 'bob' }));
    expect(bob?.id).not.toBe(first);
  });

  test('keeps the time of its last vote where the browser still holds its token, and not that of another login', async () => {
    const { voter } = await askFor(await provider.sign());
    if (!voter) throw new Error('no token');
    const cookie = `turnout_voter=${tokens.sign({ ...voter, lastCastAt: 5 })}`;
    const again = await askFor(await provider.sign(), { cookie });
    expect(again.voter).toEqual({ ...voter, lastCastAt: 5 });
    const other = await askFor(await provider.sign({ sub: 'bob' }), { cookie });
    expect(other.voter).toMatchObject({ lastCastAt: 0, isIssued: true });
    expect(other.voter?.id).not.toBe(voter.id);
  });

  test('is checked against a public key in PEM as well, of its own kind only', async () => {
    const [own, foreign] = [generateKeyPairSync('rsa', { modulusLength: 2_048 }), await createKey()];
    const pem = own.publicKey.export({ type: 'spki', format: 'pem' }).toString();
    const service = await start('pem', { JWT_KEYS: pem });
    const sign = (alg: string, key: Parameters<SignJWT['sign']>[0]) =>
      new SignJWT({ sub: 'ann', iss: provider.issuer, aud: provider.audience, exp: NOW_SECONDS + 600 })
        .setProtectedHeader({ alg })
        .sign(key);
    const { status } = await askFor(await sign('RS256', own.privateKey), {}, service);
    expect(status).toBe(201);
    for (const forged of [
      await sign('ES256', foreign.privateKey),
      // The public key as a shared secret.
      await sign('HS256', Buffer.from(pem)),
    ]) {
      expect(await askFor(forged, {}, service)).toMatchObject({ status: 401, code: 'bad_credentials' });
    }
  });
});

describe('a JWT', () => {
  test.each<[string, () => Promise<string> | string]>([
    ['of another issuer', () => provider.sign({ iss: 'https://evil.test/' })],
    ['for another audience', () => provider.sign({ aud: 'another-show' })],
    ['without audience', () => provider.sign({ aud: undefined })],
    ['that has expired', () => provider.sign({ exp: NOW_SECONDS - 60 })],
    ['that never expires', () => provider.sign({ exp: undefined })],
    ['that is not valid yet', () => provider.sign({ nbf: NOW_SECONDS + 600 })],
    ['without subject', () => provider.sign({ sub: undefined })],
    ['with an empty subject', () => provider.sign({ sub: '' })],
    ['signed with a key that is not in the set', async () => provider.sign({}, await createKey())],
    [
      'signed with another key under the id of a known one',
      async () => {
        const [, header = ''] = /^([^.]+)/.exec(await provider.sign()) ?? [];
        const { kid } = JSON.parse(Buffer.from(header, 'base64url').toString()) as { kid: string };
        return provider.sign({}, { ...(await createKey()), kid });
      },
    ],
    [
      'with the algorithm none',
      () =>
        new UnsecuredJWT({ sub: 'ann', iss: provider.issuer, aud: provider.audience })
          .setExpirationTime('1m')
          .encode(),
    ],
    [
      'with a changed claim',
      async () => (await provider.sign()).replace(/\.[^.]+\./, '.eyJzdWIiOiJib2IifQ.'),
    ],
    ['that is no JWT', () => 'hello'],
    ['that is a voter token', () => tokens.sign(tokens.mint())],
  ])('%s gets 401 and no token', async (_, make) => {
    const answer = await askFor(await make());
    expect(answer).toMatchObject({ status: 401, code: 'bad_credentials', token: '' });
    expect(answer.headers).toMatchObject({
      'content-type': 'application/problem+json',
      'www-authenticate': 'Bearer',
    });
    expect(answer.headers['set-cookie']).toBeUndefined();
  });

  test('signed with a new key of the provider is accepted within seconds, and one with the old key is not', async () => {
    const old = await provider.sign();
    expect((await askFor(old)).status).toBe(201);
    await provider.rotate();
    await until('the new key is accepted', async () => (await askFor(await provider.sign())).status === 201);
    expect((await askFor(old)).status).toBe(401);
  });

  test.each<TestFault>(['error', 'nonsense', 'silence'])(
    'gets 503 within the deadline while the key set answers with %s, then 201',
    async (fault) => {
      const service = await start(`keys-${fault}`);
      provider.fault = fault;
      const before = performance.now();
      const answer = await askFor(await provider.sign(), {}, service);
      expect(performance.now() - before).toBeLessThan(5_000);
      expect(answer).toMatchObject({ status: 503, code: 'not_issued', token: '' });
      expect(Number(answer.headers['retry-after'])).toBeGreaterThanOrEqual(1);
      expect(await service.output()).toContain('the JWK set cannot be used');
      provider.fault = undefined;
      expect((await askFor(await provider.sign(), {}, service)).status).toBe(201);
    },
  );
});

describe('a request', () => {
  const post = (body: string, headers: Record<string, string> = JSON_TYPE) =>
    ask(issuer.url, '/tokens', 'POST', headers, body);

  test.each<[number, string, string, Record<string, string>]>([
    [400, 'malformed', '{', JSON_TYPE],
    [400, 'malformed', 'null', JSON_TYPE],
    [400, 'malformed', '{"credential":1}', JSON_TYPE],
    [400, 'malformed', 'credential=', FORM_TYPE],
    [400, 'malformed', '', JSON_TYPE],
    [415, 'unsupported_media_type', 'x', { 'content-type': 'text/plain' }],
    [413, 'too_large', JSON.stringify({ credential: 'x'.repeat(20_000) }), JSON_TYPE],
    [413, 'too_large', 'x'.repeat(20_000), { ...JSON_TYPE, 'transfer-encoding': 'chunked' }],
    [403, 'cross_site', '{"credential":"x"}', { ...JSON_TYPE, origin: 'https://evil.test' }],
    [403, 'cross_site', '{"credential":"x"}', { ...JSON_TYPE, 'sec-fetch-site': 'cross-site' }],
  ])('gets %i %s for %s', async (status, code, body, headers) => {
    const answer = await post(body, headers);
    expect([answer.status, JSON.parse(answer.body)]).toEqual([status, expect.objectContaining({ code })]);
    expect(answer.headers['content-type']).toBe('application/problem+json');
  });

  test('with another method gets 405, at another path 404', async () => {
    const answer = await ask(issuer.url, '/tokens');
    expect([answer.status, answer.headers['allow']]).toEqual([405, 'POST']);
    expect((await ask(issuer.url, '/')).status).toBe(404);
  });

  test('from a form of a trusted page gets the cookie and 303 to the poll', async () => {
    const headers = {
      ...FORM_TYPE,
      accept: 'text/html',
      origin: TRUSTED,
      'sec-fetch-site': 'cross-site',
      'x-forwarded-proto': 'https',
    };
    const answer = await post(String(new URLSearchParams({ credential: await provider.sign() })), headers);
    expect([answer.status, answer.headers['location']]).toEqual([303, '/']);
    expect(answer.headers['set-cookie']).toEqual([
      expect.stringMatching(/^turnout_voter=[\w-]{76}; Path=\/; .*HttpOnly; SameSite=Lax; Secure$/),
    ]);
  });

  test('above the limit of its address gets 429, and of another address 201', async () => {
    const service = await start('limited', { TOKEN_RATE_MAX: '2' });
    const from = (address: string) => ({ 'x-forwarded-for': address });
    const jwt = await provider.sign();
    const answers = await Promise.all([1, 2, 3].map(() => askFor(jwt, from('192.0.2.1'), service)));
    expect(answers.map(({ status }) => status).toSorted()).toEqual([201, 201, 429]);
    const refused = answers.find(({ status }) => status === 429);
    expect(refused?.code).toBe('too_many');
    expect(Number(refused?.headers['retry-after'])).toBeGreaterThanOrEqual(1);
    expect((await askFor(jwt, from('192.0.2.2'), service)).status).toBe(201);
    const metrics = await (await fetch(`${service.adminUrl}/metrics`)).text();
    expect(metrics).toMatch(/^turnout_tokens_issued_total\{process="issuer"\} 3$/m);
    expect(metrics).toMatch(/^turnout_issuer_problems_total\{.*code="too_many".*\} 1$/m);
  });

  test('above the number of checks at once gets 503', async () => {
    const service = await start('crowded');
    provider.fault = 'silence';
    const jwt = await provider.sign();
    const answers = await Promise.all(Array.from({ length: 300 }, () => askFor(jwt, {}, service)));
    expect(new Set(answers.map(({ code }) => code))).toEqual(new Set(['not_issued']));
    const refusedAtOnce = answers.filter(({ body }) => body.includes('too many checks'));
    expect(refusedAtOnce).toHaveLength(300 - 256);
  });
});

test('a log shows neither JWTs nor tokens nor keys', async () => {
  const jwt = await provider.sign();
  const { token } = await askFor(jwt);
  const logs = await Promise.all(started.map((service) => service.output()));
  for (const secret of [jwt, token, VOTER_KEY]) expect(logs.join('\n')).not.toContain(secret);
});
