import type { Context } from 'hono';
import { SAFE_HEADERS } from './layout.ts';

/** What went wrong, in words for the developer of a client; `code` is a contract, the texts are not. */
export interface Problem {
  readonly status: 401 | 403 | 404 | 500 | 503;
  readonly code: string;
  readonly title: string;
  readonly detail: string;
}

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
