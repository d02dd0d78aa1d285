import type { Problem as ProblemDetails } from '../web/problem.ts';
import { BadCredentialsError, CheckUnavailableError } from './checks/check.ts';

/** Every error that a client can get. The codes are a contract. */
export type IssuerProblemCode =
  | 'malformed'
  | 'bad_credentials'
  | 'cross_site'
  | 'not_found'
  | 'method_not_allowed'
  | 'too_large'
  | 'unsupported_media_type'
  | 'too_many'
  | 'internal'
  | 'not_issued';

type Kind = Pick<ProblemDetails, 'status' | 'title'>;

export const ISSUER_PROBLEMS: Readonly<Record<IssuerProblemCode, Kind>> = {
  malformed: { status: 400, title: 'Malformed request' },
  bad_credentials: { status: 401, title: 'Invalid credentials' },
  cross_site: { status: 403, title: 'Cross-site request' },
  not_found: { status: 404, title: 'Not found' },
  method_not_allowed: { status: 405, title: 'Method not allowed' },
  too_large: { status: 413, title: 'Request too large' },
  unsupported_media_type: { status: 415, title: 'Unsupported media type' },
  too_many: { status: 429, title: 'Too many requests' },
  internal: { status: 500, title: 'Internal error' },
  not_issued: { status: 503, title: 'Token not issued' },
};

/** An error that ends a request. */
export class IssuerProblem extends Error {
  override readonly name = 'IssuerProblem';
  readonly code: IssuerProblemCode;

  /** @param detail what exactly is wrong, for the client's developer; must not repeat the request's content */
  constructor(code: IssuerProblemCode, detail: string, options?: ErrorOptions) {
    super(detail, options);
    this.code = code;
  }
}

/** Returns the problem that the client gets for an error. */
export function toIssuerProblem(error: unknown): IssuerProblem {
  if (error instanceof IssuerProblem) return error;
  if (error instanceof BadCredentialsError) return new IssuerProblem('bad_credentials', error.message);
  if (error instanceof CheckUnavailableError) {
    return new IssuerProblem('not_issued', 'the credential cannot be checked now', { cause: error });
  }
  return new IssuerProblem('internal', 'the request failed because of an internal error', { cause: error });
}
