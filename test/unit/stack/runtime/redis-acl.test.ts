import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '#dev/root.ts';
import { renderRedisAcl } from '#runtime/redis-acl.ts';
import { Secret } from '#runtime/secret.ts';

const TEMPLATE = readFileSync(join(ROOT, 'stack/redis.acl'), 'utf8');
const passwords = (vote: string, worker: string, dashboard: string) => ({
  vote: new Secret(vote),
  worker: new Secret(worker),
  dashboard: new Secret(dashboard),
});

test('the rules are one line per user, all with a password', () => {
  const acl = renderRedisAcl(TEMPLATE, passwords('one', 'two', 'three'));
  const lines = acl.trimEnd().split('\n');
  expect(lines.map((line) => line.split(' ').slice(0, 4).join(' '))).toEqual([
    'user default reset off',
    'user vote reset on',
    'user worker reset on',
    'user dashboard reset on',
  ]);
  expect(lines[0]).toBe('user default reset off ~* &* +@all');
  expect(acl).not.toContain('nopass');
  expect(lines.slice(1).join()).not.toMatch(/allkeys|@all|~\* /);
});

test('the rules hold only the hash of a password', () => {
  const acl = renderRedisAcl(TEMPLATE, passwords('one', 'two', 'hunter2'));
  expect(acl).toContain(`user dashboard reset on #${createHash('sha256').update('hunter2').digest('hex')} ~`);
  expect(acl).not.toContain('hunter2');
});

test('refuses two users with the same password', () => {
  expect(() => renderRedisAcl(TEMPLATE, passwords('hunter2', 'two', 'hunter2'))).toThrow(TypeError);
});

test.each(['user vote on #<vote> #<worker>', '#', 'user vote #<vote> #<worker> #<dashboard> #<root>'])(
  'refuses a template without the users: %s',
  (template) => {
    expect(() => renderRedisAcl(template, passwords('one', 'two', 'three'))).toThrow(TypeError);
  },
);
