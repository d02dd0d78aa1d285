import { createHash } from 'node:crypto';
import type { Secret } from './secret.ts';

/** Who connects to a node's Redis, and with what. */
export interface RedisPasswords {
  readonly vote: Secret;
  readonly worker: Secret;
  readonly dashboard: Secret;
}

/**
 * Makes the file for Redis's setting `aclfile`. It holds no password, only their SHA-256; take passwords that nobody
 * can guess, because these are not salted.
 *
 * @param template the text of `stack/redis.acl`
 * @throws TypeError when two users would share a password, or the template lacks one of them or names another
 */
export function renderRedisAcl(template: string, passwords: RedisPasswords): string {
  const hashes = new Map(Object.entries(passwords).map(([user, password]) => [user, hashOf(password)]));
  if (new Set(hashes.values()).size < hashes.size) throw new TypeError('two users share a password');
  const missing = new Set(hashes.keys());
  const rendered = joinLines(template).replace(/#<(\w+)>/g, (_, user: string) => {
    const hash = hashes.get(user);
    if (!hash) throw new TypeError(`there is no password for ${user}`);
    missing.delete(user);
    return `#${hash}`;
  });
  if (missing.size > 0) throw new TypeError(`the template has no place for ${[...missing].join(', ')}`);
  return rendered;
}

/** Redis takes neither comments nor a user on several lines. */
function joinLines(template: string): string {
  const lines = template.split('\n').filter((line) => !line.startsWith('#') && line.trim() !== '');
  return `${lines.join('\n').replaceAll(/\n\s+/g, ' ')}\n`;
}

function hashOf(password: Secret): string {
  return createHash('sha256').update(password.reveal()).digest('hex');
}
