/** A unix socket with optional credentials. */
export interface SocketAddress {
  readonly path: string;
  readonly username?: string;
  readonly password?: string;
  readonly db?: number;
}

/** The form of redis-py and node-redis. `URL` cannot parse it, because it requires a host after credentials. */
const SOCKET_URL =
  /^unix:\/\/(?:(?<username>[^/?#@:]*)(?::(?<password>[^/?#@]*))?@)?(?<path>\/[^?#]+)(?:\?db=(?<db>\d{1,4}))?$/;

/**
 * Parses `/path/to.sock` and `unix://user:password@/path/to.sock?db=0`. In the second form, name and password percent-encode
 * characters with a meaning in URLs (`/ ? # @ : %`, and `,` in lists).
 *
 * @returns `undefined` for text that is not a socket
 * @throws TypeError for a malformed `unix:` URL; the message holds no part of it
 */
export function parseSocketAddress(text: string): SocketAddress | undefined {
  if (text.startsWith('/')) return { path: text };
  if (!text.startsWith('unix:')) return undefined;
  const { username, password, path, db } = SOCKET_URL.exec(text)?.groups ?? {};
  if (path === undefined) throw new TypeError('not a unix:// URL of a socket');
  return {
    path: decode(path),
    ...(username && { username: decode(username) }),
    ...(password && { password: decode(password) }),
    ...(db && { db: Number(db) }),
  };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new TypeError('a percent sign in a unix:// URL must be written as %25');
  }
}
