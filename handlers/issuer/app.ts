import { type Context, Hono } from 'hono';
import type { Log } from '#runtime/log.ts';
import { readVoterCookie, voterCookie } from '../vote/cookies.ts';
import { isBrowserForm, isSameOrigin, type RequestHeaders, readBody } from '../vote/request.ts';
import type { Voter, VoterTokens } from '../vote/voter.ts';
import { answerProblem, linkProblems, retryAfter } from '../web/problem.ts';
import { problem } from '../web/problems.ts';
import { addressOf } from '../web/rate.ts';
import type { Check } from './checks/check.ts';
import { IssuerProblem, type IssuerProblemCode, toIssuerProblem } from './problem.ts';

/** JWTs and answers to challenges have a few kilobytes. */
const BODY_BYTES_MAX = 16_384;
/** Checks under way at once; each takes at most `CHECK_MS_MAX`. */
const CHECKS_MAX = 256;

const JSON_TYPE = 'application/json';
const FORM_TYPE = 'application/x-www-form-urlencoded';

export interface IssuerAppParts {
  readonly tokens: Pick<VoterTokens, 'mint' | 'derive' | 'sign' | 'verify'>;
  readonly check: Check;
  /** Counts a request of a client's address and returns whether it may proceed. */
  readonly isWithinRate: (address: string) => boolean;
  /** Origins besides its own whose pages may send a credential. */
  readonly origins: readonly string[];
  /** See `settings.receiptsUrl`. */
  readonly resultsUrl?: string | undefined;
  readonly log: Log;
  readonly onToken?: () => void;
  /** Called with the code of each problem that is answered. */
  readonly onProblem?: (code: IssuerProblemCode) => void;
}

/**
 * Returns the app of the issuer: `POST /tokens` with `{"credential":"…"}`, or `credential=…` as a form, responds 201 with a
 * voter token, also in the voter's cookie; a browser form gets 303 to the first poll. `problem.ts` lists every error.
 *
 * It shares the host with the voters' pages: they reach it without CORS, and its cookie is theirs.
 */
export function createIssuerApp(parts: IssuerAppParts): Hono {
  const { isWithinRate, log, onToken, onProblem } = parts;
  const check = limitConcurrency(parts.check);
  const app = new Hono();
  app.use(linkProblems(parts.resultsUrl));

  app.all('/tokens', async (c) => {
    const request = { header: (name: string) => c.req.header(name) };
    if (c.req.method !== 'POST') throw new IssuerProblem('method_not_allowed', 'ask for tokens with POST');
    if (!isWithinRate(addressOf(c)))
      throw new IssuerProblem('too_many', 'too many requests from this address');
    assertTrustedOrigin(request, parts.origins);
    const login = await check(await readCredential(c));
    const token = parts.tokens.sign(admit(parts.tokens, login, readVoterCookie(request)));
    onToken?.();
    const headers = { 'Cache-Control': 'no-store', 'Set-Cookie': voterCookie(request, token) };
    if (isBrowserForm(request)) return c.body(null, 303, { ...headers, Location: '/' });
    return c.json({ token }, 201, { ...headers, 'X-Content-Type-Options': 'nosniff' });
  });
  app.notFound((c) => respondWith(c, new IssuerProblem('not_found', 'nothing has this path')));
  app.onError((error, c) => respondWith(c, toIssuerProblem(error)));
  return app;

  function respondWith(c: Context, { code, message, cause }: IssuerProblem): Response {
    if (code === 'internal') log.error('request failed', { error: cause });
    if (code === 'not_issued' && cause instanceof Error)
      log.repeated('check failed', { reason: cause.message });
    onProblem?.(code);
    return answerProblem(c, problem(code, message), extraHeaders(code));
  }
}

/**
 * Returns the voter to issue a token for. A login is always the same voter. An answer to a challenge is a new voter, except
 * in a browser that holds an issued token: its person changes a vote and must not cast a second one.
 */
function admit(
  { mint, derive, verify }: IssuerAppParts['tokens'],
  login: string | undefined,
  cookie: string | undefined,
): Voter {
  const held = cookie === undefined ? undefined : verify(cookie);
  const known = held?.isIssued ? held : undefined;
  if (login === undefined) return known ?? { ...mint(), isIssued: true };
  const id = derive('login', login);
  // The held token also carries the time of the last vote.
  return known?.id === id ? known : { id, lastCastAt: 0, isIssued: true };
}

/** @throws IssuerProblem `unsupported_media_type`, `too_large` or `malformed` */
async function readCredential(c: Context): Promise<string> {
  const type = c.req.header('content-type')?.split(';', 1)[0]?.trim().toLowerCase();
  if (type !== JSON_TYPE && type !== FORM_TYPE) {
    throw new IssuerProblem('unsupported_media_type', `send the credential as ${JSON_TYPE} or ${FORM_TYPE}`);
  }
  const body = await readText(c);
  const credential = type === JSON_TYPE ? parseJson(body) : new URLSearchParams(body).get('credential');
  if (typeof credential !== 'string' || credential === '') {
    throw new IssuerProblem('malformed', 'the body must have a member "credential" with a text');
  }
  return credential;
}

/** Refuses a body whose declared length is too large before reading it, and a chunked one at the limit. */
async function readText(c: Context): Promise<string> {
  const isTooLarge = Number(c.req.header('content-length') ?? 0) > BODY_BYTES_MAX;
  const body = isTooLarge
    ? undefined
    : await readBody(c.req.raw.body, BODY_BYTES_MAX).catch(() => {
        throw new IssuerProblem('malformed', 'the connection closed before the end of the body');
      });
  if (body === undefined) {
    throw new IssuerProblem('too_large', `the body must not exceed ${BODY_BYTES_MAX} bytes`);
  }
  return body;
}

function parseJson(body: string): unknown {
  try {
    return (JSON.parse(body) as { credential?: unknown } | null)?.credential;
  } catch {
    throw new IssuerProblem('malformed', 'the body is not JSON');
  }
}

/**
 * Refuses a request that a page of an unknown origin makes a browser send: it would give its visitors the token of another
 * voter, and their votes would replace each other.
 *
 * @throws IssuerProblem `cross_site`
 */
function assertTrustedOrigin(request: RequestHeaders, origins: readonly string[]): void {
  if (origins.includes(request.header('origin') ?? '') || isSameOrigin(request)) return;
  throw new IssuerProblem('cross_site', 'the request comes from another origin');
}

/** Refuses checks above `CHECKS_MAX`: a slow service must not collect requests without bound. */
function limitConcurrency(check: Check): Check {
  let underWay = 0;
  return async (credential) => {
    if (underWay >= CHECKS_MAX) throw new IssuerProblem('not_issued', 'too many checks are under way');
    underWay += 1;
    try {
      return await check(credential);
    } finally {
      underWay -= 1;
    }
  };
}

function extraHeaders(code: IssuerProblemCode): Record<string, string> {
  switch (code) {
    case 'not_issued':
    case 'too_many':
      return retryAfter();
    case 'bad_credentials':
      return { 'WWW-Authenticate': 'Bearer' };
    case 'method_not_allowed':
      return { Allow: 'POST' };
    case 'too_large':
      // The rest of the body stays unread, so the connection cannot be reused.
      return { Connection: 'close' };
    default:
      return {};
  }
}
