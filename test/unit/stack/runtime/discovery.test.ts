import { describe, expect, test } from 'vitest';
import { ConfigError } from '#runtime/config.ts';
import { discoverNodes } from '#runtime/discovery.ts';
import { Secret } from '#runtime/secret.ts';

const find = (text: string) => discoverNodes(new Secret(text))();

describe('the nodes', () => {
  test('are those of a list of sockets and addresses', async () => {
    expect(await find('/run/a.sock, redis://user:p%40ss@host:7000/2,other:6380')).toEqual([
      { name: '/run/a.sock', options: { path: '/run/a.sock' } },
      {
        name: 'host:7000',
        options: { host: 'host', port: 7000, username: 'user', password: 'p@ss', db: 2 },
      },
      { name: 'other:6380', options: { host: 'other', port: 6380 } },
    ]);
  });

  test('are all addresses of a DNS name; their names hide the credentials', async () => {
    const nodes = await find('dns:worker:hunter2@localhost:7001');
    expect(nodes.length).toBeGreaterThan(0);
    for (const { name, options } of nodes) {
      expect(name).toMatch(/^(127\.0\.0\.1|\[::1\]):7001$/);
      expect(options).toMatchObject({ port: 7001, username: 'worker', password: 'hunter2' });
    }
  });

  test('are an error when the name cannot be resolved', async () => {
    await expect(find('dns:no-such-host.invalid:6379')).rejects.toThrow();
  });

  test.each(['', ',', 'http://host', 'dns:', 'redis://', 'redis://:6379'])(
    'cannot be parsed from %j',
    (text) => {
      expect(() => discoverNodes(new Secret(text))).toThrow(ConfigError);
    },
  );
});
