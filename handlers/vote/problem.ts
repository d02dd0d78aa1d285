import type { Problem as ProblemAnswer } from '../web/problem.ts';

/** Everything that can be wrong with a request, or with us, as the client sees it. The codes are a contract. */
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

interface ProblemKind {
  readonly status: 400 | 401 | 403 | 404 | 405 | 413 | 415 | 422 | 500 | 503;
  readonly title: string;
  /** What a voter reads on the page; a voter cannot do anything about the other kinds. */
  readonly toVoter: string;
}

const TRY_AGAIN = 'That did not work. Please go back to the page and choose again.';

export const PROBLEMS: Readonly<Record<ProblemCode, ProblemKind>> = {
  malformed: { status: 400, title: 'The request cannot be read', toVoter: TRY_AGAIN },
  bad_voter_token: {
    status: 401,
    title: 'The voter token is not valid',
    toVoter:
      'Your browser sent a voter token that we did not issue. Delete the cookies of this page and vote again.',
  },
  cross_site: {
    status: 403,
    title: 'The vote came from another site',
    toVoter: 'This vote came from another site, so it was not taken. Please vote on this page.',
  },
  poll_not_open: {
    status: 403,
    title: 'The poll is not open yet',
    toVoter: 'This poll is not open yet. Your vote was not taken.',
  },
  poll_closed: {
    status: 403,
    title: 'The poll is closed',
    toVoter: 'This poll is closed. Your vote was not taken.',
  },
  unknown_poll: { status: 404, title: 'There is no such poll', toVoter: 'There is no such poll.' },
  not_found: { status: 404, title: 'There is nothing here', toVoter: 'There is nothing here.' },
  method_not_allowed: { status: 405, title: 'The method is not allowed here', toVoter: TRY_AGAIN },
  too_large: { status: 413, title: 'The request is too large', toVoter: TRY_AGAIN },
  unsupported_media_type: { status: 415, title: 'The media type is not supported', toVoter: TRY_AGAIN },
  unknown_choice: {
    status: 422,
    title: 'The poll has no such choice',
    toVoter: 'This poll has no such choice. Please choose one below.',
  },
  internal: { status: 500, title: 'Something went wrong here', toVoter: TRY_AGAIN },
  not_captured: {
    status: 503,
    title: 'The vote was not captured',
    toVoter: 'So many people are voting that yours did not get through. Please vote again in a few seconds.',
  },
};

/** A request that ends here. Thrown by the parts of the app, answered in one place. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly code: ProblemCode;

  /** @param detail what exactly was wrong, for the developer of the client; never contains what they sent */
  constructor(code: ProblemCode, detail: string) {
    super(detail);
    this.code = code;
  }
}

/** The problem as the client sees it. */
export function describeProblem({ code, message }: Problem): ProblemAnswer {
  const { status, title } = PROBLEMS[code];
  return { status, code, title, detail: message };
}
