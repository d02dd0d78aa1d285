import type { Context } from 'hono';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import { SAFE_HEADERS } from './layout.ts';

/** A random delay spreads the retries of clients that were refused at the same moment. */
const RETRY_SECONDS_MIN = 1;
const RETRY_SECONDS_MAX = 5;

/** An error as the client gets it. `code` is a contract; the texts, for its developer, are not. */
export interface Problem {
  readonly status: ContentfulStatusCode;
  readonly code: string;
  readonly title: string;
  readonly detail: string;
}

export const NOT_FOUND: Problem = {
  status: 404,
  code: 'not_found',
  title: 'Not found',
  detail: 'nothing has this path',
};

/** The answer to an unexpected error, whose cause is only in the log. */
export const INTERNAL: Problem = {
  status: 500,
  code: 'internal',
  title: 'Internal error',
  detail: 'the request failed because of an internal error',
};

/** The headers of a problem. It is never cached. */
export const PROBLEM_HEADERS = {
  ...SAFE_HEADERS,
  'Content-Type': 'application/problem+json',
  'Cache-Control': 'no-store',
};

/** Returns a problem as RFC 9457 JSON, with the stable `code` as an extension member. */
export function formatProblem({ status, code, title, detail }: Problem): string {
  return JSON.stringify({ type: 'about:blank', title, status, code, detail });
}

/** Answers with a problem. */
export function answerProblem(
  c: Context,
  problem: Problem,
  headers: Readonly<Record<string, string>> = {},
): Response {
  return c.body(formatProblem(problem), problem.status, { ...PROBLEM_HEADERS, ...headers });
}

/** Returns the header of a 503 with the time of the next attempt: a random whole number of seconds. */
export function retryAfter(): { 'Retry-After': string } {
  const span = RETRY_SECONDS_MAX - RETRY_SECONDS_MIN + 1;
  return { 'Retry-After': String(RETRY_SECONDS_MIN + Math.floor(Math.random() * span)) };
}
