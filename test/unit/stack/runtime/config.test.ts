import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, describe, expect, test } from 'vitest';
import { CHALLENGE_SERVICES } from '#runtime/challenges.ts';
import { ConfigError, readConfig, settings } from '#runtime/config.ts';
import { Secret } from '#runtime/secret.ts';

const folder = mkdtempSync(join(tmpdir(), 'turnout-test-'));
afterAll(() => rmSync(folder, { recursive: true }));

function faultsOf(read: () => unknown): readonly string[] {
  try {
    read();
  } catch (error) {
    if (error instanceof ConfigError) return error.faults;
    throw error;
  }
  return [];
}

describe('the configuration', () => {
  test('reads values, and defaults of absent ones', () => {
    const read = { port: settings.port(8080), admission: settings.voterAdmission };
    expect(readConfig(read, {})).toEqual({ port: 8080, admission: 'open' });
    expect(readConfig(read, { PORT: '1234', VOTER_ADMISSION: 'issued' })).toEqual({
      port: 1234,
      admission: 'issued',
    });
  });

  test('reads a secret from the file of NAME_FILE without its newline', () => {
    const file = join(folder, 'key');
    writeFileSync(file, `${'k'.repeat(32)}\n`);
    const { keys } = readConfig({ keys: settings.voterKeys }, { VOTER_KEY_FILE: file });
    expect(keys.map((key) => key.reveal())).toEqual(['k'.repeat(32)]);
  });

  test('reads a key ring, and refuses one with a short key', () => {
    const ring = ['n', 'o'].map((letter) => letter.repeat(32));
    const { keys } = readConfig({ keys: settings.voterKeys }, { VOTER_KEY: ring.join(', ') });
    expect(keys.map((key) => key.reveal())).toEqual(ring);
    expect(faultsOf(() => readConfig({ keys: settings.voterKeys }, { VOTER_KEY: `${ring[0]},` }))).toEqual([
      'VOTER_KEY must be at least 32 bytes long',
    ]);
  });

  test('lists every fault at once without values', () => {
    const faults = faultsOf(() =>
      readConfig(
        {
          port: settings.port(8080),
          key: settings.voterKeys,
          database: settings.databaseUrl,
          redis: settings.redisUrl,
          node: settings.node,
          users: settings.dashboardUsers,
          votes: settings.votesPerJobMax,
          file: settings.pollsFile,
        },
        {
          PORT: 'eighty',
          VOTER_KEY: 'hunter2',
          DATABASE_URL: 'mysql://root:hunter2@db',
          REDIS_URL: 'hunter2',
          TURNOUT_NODE: 'a:b',
          DASHBOARD_USERS: 'admin:short',
          VOTES_PER_JOB_MAX: '0',
          POLLS_FILE_FILE: join(folder, 'missing'),
        },
      ),
    );
    expect(faults.map((fault) => fault.split(' ')[0])).toEqual([
      'PORT',
      'VOTER_KEY',
      'DATABASE_URL',
      'REDIS_URL',
      'TURNOUT_NODE',
      'DASHBOARD_USERS',
      'VOTES_PER_JOB_MAX',
      'POLLS_FILE',
    ]);
    expect(faults.join()).not.toMatch(/hunter2|short|eighty/);
  });

  test.each(['redis://user:bad%@host', 'rediss://%zz@host'])(
    'refuses %s, whose password cannot be decoded',
    (url) => {
      expect(faultsOf(() => readConfig({ redis: settings.redisUrl }, { REDIS_URL: url }))).toEqual([
        'REDIS_URL must be a URL in which a percent sign is written as %25',
      ]);
    },
  );

  test('reads a public address without its last slash, and refuses what a path cannot be appended to', () => {
    const read = (text?: string) =>
      readConfig({ url: settings.receiptsUrl }, text === undefined ? {} : { RECEIPTS_URL: text }).url;
    expect(read('https://results.test/a/')).toBe('https://results.test/a');
    expect(read()).toBeUndefined();
    for (const text of [
      'results.test',
      'ftp://r.test',
      'https://r.test?a',
      'https://r.test#a',
      'http://u:p@r.test',
    ]) {
      expect(
        faultsOf(() => read(text)),
        text,
      ).toEqual(['RECEIPTS_URL must be an address like https://results.example']);
    }
  });

  test('names a missing setting', () => {
    expect(faultsOf(() => readConfig({ key: settings.voterKeys }, {}))).toEqual([
      'VOTER_KEY is missing (set it, or VOTER_KEY_FILE)',
    ]);
  });

  test('refuses a setting given twice', () => {
    expect(
      faultsOf(() => readConfig({ key: settings.voterKeys }, { VOTER_KEY: 'a', VOTER_KEY_FILE: 'b' })),
    ).toEqual(['VOTER_KEY is set twice: keep either VOTER_KEY or VOTER_KEY_FILE']);
  });

  test('reads networks with limits, and refuses what is no network', () => {
    const read = (text: string) =>
      readConfig({ all: settings.postRateNetworks }, { POST_RATE_NETWORKS: text }).all;
    expect(read('')).toEqual([]);
    expect(read('100.64.0.0/10=6000, 2001:db8::/32=0\n192.0.2.1=5')).toEqual([
      { network: '100.64.0.0/10', max: 6_000 },
      { network: '2001:db8::/32', max: 0 },
      { network: '192.0.2.1', max: 5 },
    ]);
    const trusted = { TRUSTED_PROXIES: '192.0.2.0/24,\n2001:db8::/32' };
    expect(readConfig({ all: settings.trustedProxies }, trusted).all).toEqual([
      '192.0.2.0/24',
      '2001:db8::/32',
    ]);
    for (const wrong of ['10.0.0.0/8', '10.0.0.0/33=1', '::/129=1', '10.0.0=1', 'x }=1', '10.0.0.0/8=-1']) {
      expect(
        faultsOf(() => read(wrong)),
        wrong,
      ).toHaveLength(1);
    }
  });

  test('reads several users, with colons in their passwords, hashes and viewers', () => {
    const hash = createHash('sha256').update('third-word').digest('hex');
    const { users } = readConfig(
      { users: settings.dashboardUsers },
      { DASHBOARD_USERS: `ann:pass:word,\nbob:other-word,viewer/cy:#${hash}` },
    );
    expect([...users].map(([name, { mayChange }]) => [name, mayChange])).toEqual([
      ['ann', true],
      ['bob', true],
      ['cy', false],
    ]);
    const opens = (name: string, password: string) => users.get(name)?.isPassword(password);
    expect(opens('ann', 'pass:word')).toBe(true);
    expect(opens('bob', 'pass:word')).toBe(false);
    expect(opens('cy', 'third-word')).toBe(true);
    expect(opens('cy', `#${hash}`)).toBe(false);
    expect(JSON.stringify([...users])).not.toContain('word');
  });

  test.each([
    'ann',
    'ann:short',
    ':password',
    'viewer/:password',
    'viewer/ann:short',
    'operator/ann:password',
    '',
  ])('refuses the user %j', (text) => {
    expect(() => readConfig({ users: settings.dashboardUsers }, { DASHBOARD_USERS: text })).toThrow(
      'DASHBOARD_USERS',
    );
  });
});

test('a secret prints as a mask', () => {
  const secret = new Secret('hunter2');
  for (const text of [String(secret), JSON.stringify({ secret }), inspect({ secret }), `${secret}`]) {
    expect(text).not.toContain('hunter2');
  }
});

describe('the settings of the issuer', () => {
  const parse = (name: 'challenge' | 'jwtKeys' | 'tokenOrigins', text: string) =>
    readConfig({ value: settings[name] }, { [settings[name].name]: text }).value;

  test('name a challenge by its service and the sitekey', () => {
    expect(parse('challenge', '')).toBeUndefined();
    expect(parse('challenge', 'turnstile:0x4AAA_a-b.c')).toEqual({
      service: CHALLENGE_SERVICES.turnstile,
      sitekey: '0x4AAA_a-b.c',
    });
    for (const wrong of [
      'turnstile',
      'turnstile:',
      'other:key',
      'turnstile:a:b',
      'turnstile:<b>',
      'toString:x',
    ]) {
      expect(() => parse('challenge', wrong)).toThrow('turnstile, hcaptcha, friendlycaptcha');
    }
  });

  test('take the URL of a JWK set or a public key in PEM, never a private or a shared one', () => {
    const { publicKey, privateKey } = generateKeyPairSync('ed25519');
    const publicPem = publicKey.export({ type: 'spki', format: 'pem' }).toString();
    const privatePem = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    expect(String(parse('jwtKeys', 'https://login.test/jwks'))).toBe('https://login.test/jwks');
    expect((parse('jwtKeys', publicPem) as KeyObject).type).toBe('public');
    for (const wrong of [
      privatePem,
      'a shared secret',
      'file:///etc/passwd',
      publicPem.replace('MC', 'XX'),
    ]) {
      expect(() => parse('jwtKeys', wrong)).toThrow(/JWT_KEYS must be/);
    }
  });

  test('list origins without paths', () => {
    expect(parse('tokenOrigins', 'https://a.test, http://b.test:8080')).toEqual([
      'https://a.test',
      'http://b.test:8080',
    ]);
    for (const wrong of ['a.test', 'https://a.test/', 'https://A.test', '*', 'null']) {
      expect(() => parse('tokenOrigins', wrong)).toThrow('TOKEN_ORIGINS must be');
    }
  });
});
