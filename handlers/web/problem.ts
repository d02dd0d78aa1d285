import type { Context } from 'hono';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import { SAFE_HEADERS } from './layout.ts';

/** What went wrong, in words for the developer of a client; `code` is a contract, the texts are not. */
export interface Problem {
  readonly status: ContentfulStatusCode;
  readonly code: string;
  readonly title: string;
  readonly detail: string;
}

export const NOT_FOUND: Problem = {
  status: 404,
  code: 'not_found',
  title: 'There is nothing here',
  detail: 'nothing has this address',
};

/** What the client learns of an error that nobody foresaw; the log has the rest. */
export const INTERNAL: Problem = {
  status: 500,
  code: 'internal',
  title: 'Something went wrong here',
  detail: 'the request failed for a reason of ours',
};

/** Answers as RFC 9457 says, with our stable `code` beside the standard members. Never cached. */
export function answerProblem(
  c: Context,
  { status, code, title, detail }: Problem,
  headers: Readonly<Record<string, string>> = {},
): Response {
  return c.body(JSON.stringify({ type: 'about:blank', title, status, code, detail }), status, {
    ...SAFE_HEADERS,
    'Content-Type': 'application/problem+json',
    'Cache-Control': 'no-store',
    ...headers,
  });
}
