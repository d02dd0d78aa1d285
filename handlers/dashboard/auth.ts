import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Context, MiddlewareHandler } from 'hono';
import type { Secret } from '#runtime/secret.ts';
import { answerProblem } from '../web/problem.ts';

const READING_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD']);

/**
 * Lets known users in, by HTTP Basic authentication; all others get 401. Both sides are hashed before they are compared,
 * in constant time, and an unknown name costs the same as a wrong password.
 */
export function requireUser(users: ReadonlyMap<string, Secret>): MiddlewareHandler {
  const digests = new Map([...users].map(([name, password]) => [name, digestOf(password.reveal())]));
  const nobody = randomBytes(32);
  return async (c, next) => {
    const [name, password] = credentialsOf(c);
    const expected = digests.get(name);
    const isRight = timingSafeEqual(digestOf(password), expected ?? nobody);
    if (isRight && expected) return next();
    return answerProblem(
      c,
      {
        status: 401,
        code: 'unauthorized',
        title: 'Who are you?',
        detail: 'the dashboard needs a name and a password',
      },
      { 'WWW-Authenticate': 'Basic realm="Turnout dashboard", charset="UTF-8"' },
    );
  };
}

/**
 * Refuses what a browser would change on behalf of another site: it sends the password along by itself, whoever wrote the
 * page. Browsers tell by `Sec-Fetch-Site`, older ones by `Origin`; programs send neither.
 */
export const refuseOtherSites: MiddlewareHandler = async (c, next) => {
  if (READING_METHODS.has(c.req.method) || isOwnSite(c)) return next();
  return answerProblem(c, {
    status: 403,
    code: 'cross_site',
    title: 'The request came from another site',
    detail: 'the dashboard changes something only for its own pages',
  });
};

function isOwnSite(c: Context): boolean {
  const site = c.req.header('sec-fetch-site');
  if (site !== undefined) return site === 'same-origin' || site === 'none';
  const origin = c.req.header('origin');
  if (origin === undefined) return true;
  return URL.canParse(origin) && new URL(origin).host === c.req.header('host');
}

function credentialsOf(c: Context): [name: string, password: string] {
  const [, encoded = ''] = /^Basic +([\w+/=-]+)$/i.exec(c.req.header('authorization') ?? '') ?? [];
  const text = Buffer.from(encoded, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  return colon < 0 ? ['', ''] : [text.slice(0, colon), text.slice(colon + 1)];
}

function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
