import { describe, expect, test } from 'vitest';
import { ConfigError, readConfig, settings } from '#runtime/config.ts';
import { discoverNodes } from '#runtime/discovery.ts';
import { parseRedisAddress } from '#runtime/redis.ts';
import { Secret } from '#runtime/secret.ts';

const accept = (url: string) => readConfig({ redis: settings.redisUrl }, { REDIS_URL: url }).redis.reveal();

describe('the address of a Redis', () => {
  test.each<[string, object]>([
    ['/run/r.sock', { path: '/run/r.sock' }],
    ['/run/with @ and :.sock', { path: '/run/with @ and :.sock' }],
    ['unix:///run/r.sock', { path: '/run/r.sock' }],
    ['unix://:hunter2@/run/r.sock', { path: '/run/r.sock', password: 'hunter2' }],
    ['unix://vote:hunter2@/run/r.sock', { path: '/run/r.sock', username: 'vote', password: 'hunter2' }],
    ['unix://vote:h%2F%40%3A%25@/r%20s?db=3', { path: '/r s', username: 'vote', password: 'h/@:%', db: 3 }],
    ['redis://vote:h%40@host', { host: 'host', port: 6379, username: 'vote', password: 'h@' }],
    ['rediss://host:7/1', { host: 'host', port: 7, db: 1, tls: {} }],
  ])('%s is parsed, and accepted as a setting', (url, options) => {
    expect(parseRedisAddress(url).options).toEqual(options);
    expect(accept(url)).toBe(url);
  });

  test.each([
    'unix://vote:hunter2@/run/r.sock',
    'unix://:hunter2@/run/r.sock?db=1',
    'redis://vote:hunter2@host:6379',
    'rediss://:hunter2@[::1]:6379/2',
  ])('%s has a name without credentials', (url) => {
    expect(parseRedisAddress(url).name).not.toMatch(/vote|hunter2|@/);
  });

  test.each([
    'unix:/run/hunter2.sock',
    'unix://',
    'unix://host/run/hunter2.sock',
    'unix://vote:hunter2@host/run/r.sock',
    'unix://vote:hun/ter2@/run/r.sock',
    'unix://vote:hunter2%@/run/r.sock',
    'unix://vote:hunter2@/run/r.sock?db=x',
    'http://hunter2@host',
    'hunter2',
  ])('%s is refused without being printed', (url) => {
    for (const read of [() => parseRedisAddress(url), () => accept(url)]) {
      expect(read).toThrow();
      expect(read).not.toThrow(/hunter2/);
    }
    expect(() => accept(url)).toThrow(ConfigError);
  });
});

test('nodes in a list may be sockets with credentials, which their names hide', async () => {
  const list = 'unix://worker:hun%2Cter2@/run/a.sock, /run/b.sock,unix://worker:hunter3@/run/c.sock';
  expect(await discoverNodes(new Secret(list))()).toEqual([
    { name: '/run/a.sock', options: { path: '/run/a.sock', username: 'worker', password: 'hun,ter2' } },
    { name: '/run/b.sock', options: { path: '/run/b.sock' } },
    { name: '/run/c.sock', options: { path: '/run/c.sock', username: 'worker', password: 'hunter3' } },
  ]);
});

test('a list with a malformed socket is refused without being printed', () => {
  const read = () => discoverNodes(new Secret('/run/a.sock,unix://worker:hunter2@host/run/b.sock'));
  expect(read).toThrow(ConfigError);
  expect(read).not.toThrow(/hunter2/);
});
