import { createHash } from 'node:crypto';
import type { Secret } from './secret.ts';

/** The passwords of the users of a node's Redis. */
export interface RedisPasswords {
  readonly vote: Secret;
  readonly worker: Secret;
  readonly dashboard: Secret;
}

/**
 * Renders the file for Redis's setting `aclfile`. It holds SHA-256 hashes of the passwords, without a salt, so passwords must
 * be random. `stack/swarm/secrets.sh` does the same in shell.
 *
 * @param template the text of `stack/redis.acl`
 * @throws TypeError when two users share a password, or the template lacks a user or has another one
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
  if (missing.size > 0) throw new TypeError(`the template lacks ${[...missing].join(', ')}`);
  return rendered;
}

/** Redis accepts neither comments nor a user on several lines. */
function joinLines(template: string): string {
  const lines = template.split('\n').filter((line) => !line.startsWith('#') && line.trim() !== '');
  return `${lines.join('\n').replaceAll(/\n\s+/g, ' ')}\n`;
}

function hashOf(password: Secret): string {
  return createHash('sha256').update(password.reveal()).digest('hex');
}
