import type { ProblemCode } from '../web/problems.ts';
import { BadCredentialsError, CheckUnavailableError } from './checks/check.ts';

/** Every error that a client can get, see `PROBLEMS`. */
export const ISSUER_PROBLEMS = [
  'malformed',
  'bad_credentials',
  'cross_site',
  'not_found',
  'method_not_allowed',
  'too_large',
  'unsupported_media_type',
  'too_many',
  'internal',
  'not_issued',
] as const satisfies readonly ProblemCode[];

export type IssuerProblemCode = (typeof ISSUER_PROBLEMS)[number];

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
