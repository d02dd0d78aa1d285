import { expect, test } from 'vitest';
import { readEnvironment } from '#dev/start/environment.ts';

test('passes through the settings of the processes, and nothing else', () => {
  const { children } = readEnvironment({
    PATH: '/bin',
    HOME: '/root',
    LANG: 'de_DE',
    AWS_SECRET_ACCESS_KEY: 'x',
    VOTES_PER_JOB_MAX: '1',
    LOG_LEVEL: 'debug',
  });
  expect(children).toEqual({ PATH: '/bin', HOME: '/root', VOTES_PER_JOB_MAX: '1', LOG_LEVEL: 'debug' });
});

test('reads the settings of the issuer only where voters need its tokens, and keeps them from the others', () => {
  const environment = { CHALLENGE: 'turnstile:key', SITEVERIFY_SECRET_FILE: '/secret' };
  expect(readEnvironment(environment).issuer).toBeUndefined();
  const { issuer, children } = readEnvironment({ ...environment, VOTER_ADMISSION: 'issued' });
  expect(issuer).toEqual(environment);
  expect(children).toEqual({ VOTER_ADMISSION: 'issued' });
});

test('lists every invalid setting in one error', () => {
  expect(() => readEnvironment({ LOG_LEVEL: 'loud', WEB_CONCURRENCY: '0' })).toThrow(
    /LOG_LEVEL must be .*; WEB_CONCURRENCY must be /,
  );
  expect(() => readEnvironment({ DATABASE_URL: 'mysql://x' })).toThrow(/DATABASE_URL must be/);
});

test('keeps the URL of an existing database secret', () => {
  expect(readEnvironment({}).databaseUrl).toBeUndefined();
  const { databaseUrl, children } = readEnvironment({ DATABASE_URL: 'postgres://u:secret@db/x' });
  expect(databaseUrl?.reveal()).toBe('postgres://u:secret@db/x');
  expect(`${databaseUrl} ${JSON.stringify(children)}`).not.toContain('secret@');
});
