import type { Problem as ProblemDetails } from '../web/problem.ts';
import type { PROBLEMS as DOCUMENTED } from '../web/problems.ts';
import { NotCapturedError, PollClosedError } from './capture.ts';

/** Every error that a client can get. The codes are a contract. */
export type ProblemCode =
  | 'malformed'
  | 'bad_voter_token'
  | 'cross_site'
  | 'poll_not_open'
  | 'poll_closed'
  | 'unknown_poll'
  | 'not_found'
  | 'method_not_allowed'
  | 'too_large'
  | 'unsupported_media_type'
  | 'unknown_choice'
  | 'internal'
  | 'not_captured';

/** Repeats the status and title of the documented problem, whose texts would only enlarge the bundle. */
type ProblemKinds = {
  readonly [Code in ProblemCode]: Pick<(typeof DOCUMENTED)[Code], 'status' | 'title'> & {
    /** The message on the page. */
    readonly toVoter: string;
  };
};

const TRY_AGAIN = 'Something went wrong. Please go back and choose again.';

export const PROBLEMS: ProblemKinds = {
  malformed: { status: 400, title: 'Malformed request', toVoter: TRY_AGAIN },
  bad_voter_token: {
    status: 401,
    title: 'Invalid voter token',
    toVoter:
      'We could not verify your browser. Please reload this page and vote again. If that fails, delete the cookies of this site.',
  },
  cross_site: {
    status: 403,
    title: 'Cross-site request',
    toVoter: 'This vote came from another website, so it was not counted. Please vote on this page.',
  },
  poll_not_open: {
    status: 403,
    title: 'Poll not open yet',
    toVoter: 'This poll is not open yet, so your vote was not counted.',
  },
  poll_closed: {
    status: 403,
    title: 'Poll closed',
    toVoter: 'This poll has closed, so your vote was not counted.',
  },
  unknown_poll: { status: 404, title: 'Unknown poll', toVoter: 'We could not find this poll.' },
  not_found: { status: 404, title: 'Not found', toVoter: 'We could not find this page.' },
  method_not_allowed: { status: 405, title: 'Method not allowed', toVoter: TRY_AGAIN },
  too_large: { status: 413, title: 'Request too large', toVoter: TRY_AGAIN },
  unsupported_media_type: { status: 415, title: 'Unsupported media type', toVoter: TRY_AGAIN },
  unknown_choice: {
    status: 422,
    title: 'Unknown choice',
    toVoter: 'That is not one of the choices. Please pick one below.',
  },
  internal: { status: 500, title: 'Internal error', toVoter: TRY_AGAIN },
  not_captured: {
    status: 503,
    title: 'Vote not captured',
    toVoter:
      'So many people are voting right now that we missed your vote. Please try again in a few seconds.',
  },
};

interface ProblemOptions {
  /** The `Set-Cookie` value that goes with the answer. */
  readonly voterCookie?: string | undefined;
  readonly cause?: unknown;
}

/** An error that ends a request. Thrown anywhere on its path, answered by the app. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly code: ProblemCode;
  readonly voterCookie: string | undefined;

  /** @param detail what exactly is wrong, for the client's developer; must not repeat the request's content */
  constructor(code: ProblemCode, detail: string, { voterCookie, cause }: ProblemOptions = {}) {
    super(detail, { cause });
    this.code = code;
    this.voterCookie = voterCookie;
  }
}

/** Returns the problem that the client gets for an error; `internal` for one without a code of its own. */
export function toProblem(error: unknown, voterCookie?: string): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof NotCapturedError) return new Problem('not_captured', error.message, { voterCookie });
  if (error instanceof PollClosedError) return new Problem('poll_closed', error.message, { voterCookie });
  return new Problem('internal', 'the request failed because of an internal error', {
    voterCookie,
    cause: error,
  });
}

/** Returns the members of a problem's JSON. */
export function describeProblem({ code, message }: Problem): ProblemDetails {
  const { status, title } = PROBLEMS[code];
  return { status, code, title, detail: message };
}
