import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Context, MiddlewareHandler } from 'hono';
import type { Secret } from '#runtime/secret.ts';
import { answerProblem } from '../web/problem.ts';
import { problem } from '../web/problems.ts';

const READING_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD']);

/** Variables of a request that passed `requireUser`. */
export interface UserVariables {
  readonly Variables: {
    /** The name of the authenticated user. */
    readonly user: string;
  };
}

/**
 * Requires HTTP Basic authentication; others get 401. Name and password are hashed and compared in constant time, and an
 * unknown name takes as long as a wrong password. Hono's `basicAuth` compares names one by one, which reveals them by time.
 */
export function requireUser(users: ReadonlyMap<string, Secret>): MiddlewareHandler<UserVariables> {
  const digests = new Map([...users].map(([name, password]) => [name, digestOf(password.reveal())]));
  const unknownUser = randomBytes(32);
  return async (c, next) => {
    const [name, password] = credentialsOf(c);
    const expected = digests.get(name);
    const isRight = timingSafeEqual(digestOf(password), expected ?? unknownUser);
    if (isRight && expected) {
      c.set('user', name);
      return next();
    }
    return answerProblem(c, problem('unauthorized'), {
      'WWW-Authenticate': 'Basic realm="Turnout dashboard", charset="UTF-8"',
    });
  };
}

/**
 * Refuses changes that a browser sends on behalf of another site, since it attaches the password to any request. Browsers
 * identify the site by `Sec-Fetch-Site`, older ones by `Origin`; programs send neither. Hono's `csrf` covers form content types
 * only, but here a POST without a body changes something.
 */
export const refuseOtherSites: MiddlewareHandler = async (c, next) => {
  if (READING_METHODS.has(c.req.method) || isOwnSite(c)) return next();
  return answerProblem(c, problem('cross_site', 'the dashboard accepts changes from its own pages only'));
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
