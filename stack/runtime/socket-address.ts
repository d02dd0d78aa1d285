/** A unix socket, and who to be there. */
export interface SocketAddress {
  readonly path: string;
  readonly username?: string;
  readonly password?: string;
  readonly db?: number;
}

/** The same form that redis-py and node-redis take. `URL` cannot read it: it wants a host behind the credentials. */
const SOCKET_URL =
  /^unix:\/\/(?:(?<username>[^/?#@:]*)(?::(?<password>[^/?#@]*))?@)?(?<path>\/[^?#]+)(?:\?db=(?<db>\d{1,4}))?$/;

/**
 * Understands `/path/to.sock` and `unix://user:password@/path/to.sock?db=0`. In the second form, what has a meaning in
 * URLs (`/ ? # @ : %`, and `,` in lists) is percent-encoded within name and password.
 *
 * @returns `undefined` when it is no socket at all
 * @throws TypeError when it begins like a socket's URL and is none; the message holds no part of it
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
