import { parse } from 'hono/utils/cookie';
import type { Poll } from '#runtime/polls.ts';
import type { RequestHeaders } from './request.ts';

const VOTER_COOKIE = 'turnout_voter';
const VOTER_COOKIE_VALUE = /(?:^|;)\s*turnout_voter=([^;]*)/;
/** Holds the choice that the page shows. Not signed, because it is never counted. */
const CHOICE_COOKIE = 'turnout_choice';
const COOKIE_SECONDS = 365 * 24 * 60 * 60;

/** Returns the value of the voter cookie, empty or not; `undefined` when there is none. */
export function readVoterCookie(request: RequestHeaders): string | undefined {
  return VOTER_COOKIE_VALUE.exec(request.header('cookie') ?? '')?.[1]?.trim();
}

/** Returns the `Set-Cookie` value that stores a voter's token. */
export function voterCookie(request: RequestHeaders, token: string): string {
  return formatCookie(request, VOTER_COOKIE, token, '/');
}

/** Returns the choice id in the cookie of a poll's page; it may be any text. */
export function readChoiceCookie(request: RequestHeaders, { id }: Poll): string | undefined {
  const name = `${CHOICE_COOKIE}_${id}`;
  return parse(request.header('cookie') ?? '', name)[name];
}

/**
 * Returns the `Set-Cookie` value that stores a choice.
 *
 * @param path the only path that gets the cookie: sent everywhere, the cookies of many polls would exceed the limit of
 *   a request's headers
 */
export function choiceCookie(request: RequestHeaders, { id }: Poll, choice: string, path: string): string {
  return formatCookie(request, `${CHOICE_COOKIE}_${id}`, choice, path);
}

/** `Secure` is set only where the voter's own connection uses TLS; over HTTP the browser would drop the cookie. */
function formatCookie(request: RequestHeaders, name: string, value: string, path: string): string {
  const secure = request.header('x-forwarded-proto') === 'https' ? '; Secure' : '';
  return `${name}=${value}; Path=${path}; Max-Age=${COOKIE_SECONDS}; HttpOnly; SameSite=Lax${secure}`;
}
