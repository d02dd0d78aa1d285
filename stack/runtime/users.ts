import { createHash, timingSafeEqual } from 'node:crypto';

const PASSWORD_CHARACTERS_MIN = 8;
const VIEWER_PREFIX = 'viewer/';

/** Someone who may use the dashboard. Logged, it shows nothing of the password. */
export interface User {
  /** Whether the user may change something; a viewer only looks. */
  readonly mayChange: boolean;
  /** Whether a text is the password, in constant time. */
  isPassword(text: string): boolean;
}

/** Returns a user. @param digest SHA-256 of the password, 32 bytes */
export function createUser(digest: Buffer, mayChange: boolean): User {
  return { mayChange, isPassword: (text) => timingSafeEqual(digestOf(text), digest) };
}

/**
 * Parses `name:password` or `viewer/name:password`. Instead of the password there may be `#` and its SHA-256 in hexadecimal digits,
 * as in the rules of Redis: enough for a random password, too little for one that a person invented.
 *
 * @returns `undefined` when the text is something else, or the password has fewer than 8 characters
 */
export function parseUser(text: string): readonly [name: string, user: User] | undefined {
  const mayChange = !text.startsWith(VIEWER_PREFIX);
  const entry = mayChange ? text : text.slice(VIEWER_PREFIX.length);
  const [, name, password = ''] = /^([^:/]+):([\s\S]*)$/.exec(entry) ?? [];
  if (name === undefined || password.length < PASSWORD_CHARACTERS_MIN) return undefined;
  const [, hex] = /^#([0-9a-f]{64})$/.exec(password) ?? [];
  const digest = hex === undefined ? digestOf(password) : Buffer.from(hex, 'hex');
  return [name, createUser(digest, mayChange)];
}

function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
