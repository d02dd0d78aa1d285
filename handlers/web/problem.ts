import type { Context, MiddlewareHandler } from 'hono';
import { SAFE_HEADERS } from './layout.ts';
import type { ProblemCode, ProblemKind } from './problems.ts';

/** A random delay spreads the retries of clients that were refused at the same moment. */
const RETRY_SECONDS_MIN = 1;
const RETRY_SECONDS_MAX = 5;

/** An error as the client gets it. `code` is a contract; the texts, for its developer, are not. */
export interface Problem {
  readonly status: ProblemKind['status'];
  readonly code: ProblemCode;
  readonly title: string;
  readonly detail: string;
}

/** The headers of a problem. It is never cached. */
export const PROBLEM_HEADERS = {
  ...SAFE_HEADERS,
  'Content-Type': 'application/problem+json',
  'Cache-Control': 'no-store',
};

/**
 * Returns the `type` of a problem: the address of its page, or a URN where the public address of the results is not
 * configured. RFC 9457 recommends absolute URIs and permits those that cannot be resolved; a relative reference would
 * name a different type at each handler, and a page that only the results have.
 */
export function problemType(code: string, resultsUrl: string | undefined): string {
  return resultsUrl === undefined ? `urn:turnout:problem:${code}` : `${resultsUrl}/problems/${code}`;
}

/** Returns a problem as RFC 9457 JSON, with the stable `code` as an extension member. */
export function formatProblem({ status, code, title, detail }: Problem, resultsUrl?: string): string {
  return JSON.stringify({ type: problemType(code, resultsUrl), title, status, code, detail });
}

/** Middleware: `answerProblem` then links every problem of the app to its page. */
export function linkProblems(resultsUrl: string | undefined): MiddlewareHandler<ProblemVariables> {
  return (c, next) => {
    c.set('resultsUrl', resultsUrl);
    return next();
  };
}

interface ProblemVariables {
  readonly Variables: { readonly resultsUrl: string | undefined };
}

/** Answers with a problem. */
export function answerProblem(
  c: Context,
  problem: Problem,
  headers: Readonly<Record<string, string>> = {},
): Response {
  return c.body(formatProblem(problem, c.get('resultsUrl')), problem.status, {
    ...PROBLEM_HEADERS,
    ...headers,
  });
}

/** Returns the header of a 503 with the time of the next attempt: a random whole number of seconds. */
export function retryAfter(): { 'Retry-After': string } {
  const span = RETRY_SECONDS_MAX - RETRY_SECONDS_MIN + 1;
  return { 'Retry-After': String(RETRY_SECONDS_MIN + Math.floor(Math.random() * span)) };
}
