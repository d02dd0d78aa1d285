import { randomBytes } from 'node:crypto';
import type { Context, MiddlewareHandler } from 'hono';
import { createUser, type User } from '#runtime/users.ts';
import { answerProblem } from '../web/problem.ts';
import { problem } from '../web/problems.ts';
import { addressOf, RateLimit } from '../web/rate.ts';

/** Wrong passwords of an address within the time for which it gets no more answers. */
export const FAILURES_MAX = 10;
const LOCKOUT_MS = 60_000;

const READING_METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD']);

/** Variables of a request that passed `requireUser`. */
export interface UserVariables {
  readonly Variables: {
    /** The name of the authenticated user. */
    readonly user: string;
    /** Whether the user may change something. */
    readonly mayChange: boolean;
  };
}

/**
 * Requires HTTP Basic authentication; others get 401, and 429 once their address has sent many wrong passwords. An unknown name
 * takes as long as a wrong password. Hono's `basicAuth` compares names one by one, which reveals them by time.
 */
export function requireUser(users: ReadonlyMap<string, User>): MiddlewareHandler<UserVariables> {
  const nobody = createUser(randomBytes(32), false);
  const failures = new RateLimit({ perWindowMax: FAILURES_MAX, windowMs: LOCKOUT_MS });
  return async (c, next) => {
    const address = addressOf(c);
    if (failures.isReached(address)) {
      return answerProblem(c, problem('too_many', 'too many wrong passwords from this address'), {
        'Retry-After': String(LOCKOUT_MS / 1_000),
      });
    }
    const [name, password] = credentialsOf(c);
    const user = users.get(name) ?? nobody;
    if (user.isPassword(password)) {
      c.set('user', name);
      c.set('mayChange', user.mayChange);
      return next();
    }
    // A browser asks without a password first.
    if (name !== '') failures.count(address);
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

/** Refuses changes by viewers. */
export const refuseViewers: MiddlewareHandler<UserVariables> = async (c, next) => {
  if (READING_METHODS.has(c.req.method) || c.var.mayChange) return next();
  return answerProblem(c, problem('viewer'));
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
