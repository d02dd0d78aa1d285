import type { Problem } from './problem.ts';

/** A problem as it is documented. Its code, status and title are a contract; the texts are not. */
export interface ProblemKind {
  readonly status: 400 | 401 | 403 | 404 | 405 | 408 | 409 | 413 | 415 | 422 | 429 | 500 | 502 | 503 | 504;
  readonly title: string;
  /** For the client's developer: the detail of an answer, of which this is one. */
  readonly detail: string;
  /** What happened, and what to do: sentences of the problem's page. */
  readonly cause: string;
  readonly remedy: string;
}

const TRY_LATER =
  'Wait for the number of seconds in the header Retry-After, then send the same request again.';

/**
 * Every problem that a client can get, by its code. The API description and the page of each problem are made from it.
 *
 * The vote handler has a shorter table in its bundle, whose codes, statuses and titles the compiler compares with these.
 */
export const PROBLEMS = {
  malformed: {
    status: 400,
    title: 'Malformed request',
    detail: 'the body must have a member "choice" with a string value',
    cause: 'The body is not JSON or a form, or it has no choice.',
    remedy: 'Send {"choice":"cats"} as application/json, or choice=cats as a form.',
  },
  missing_reason: {
    status: 400,
    title: 'Reason required',
    detail: 'the field "reason" must have 1 to 500 characters',
    cause:
      'A change of a node is recorded with its reason, and the request has none, or one that is too long.',
    remedy: 'Send the field "reason", as a form or as JSON. The detail states its length.',
  },
  invalid_jobs: {
    status: 400,
    title: 'Jobs required',
    detail: 'the field "jobs" must have 1 to 100 keys of jobs, <source>.<number>, separated by space',
    cause: 'The request names no job to write off, too many, or something that is not the key of a job.',
    remedy: 'Send the field "jobs" with keys as the audit shows them. The detail states how many.',
  },
  invalid_time: {
    status: 400,
    title: 'Time required',
    detail: 'either "minutes", 1 to 10080, or "closesAt", a time like 2027-02-07T23:30:00Z, must be given',
    cause:
      'A poll is extended by minutes or to a time, and the request has neither, both, or one that is not valid.',
    remedy: 'Send exactly one of the fields "minutes" and "closesAt".',
  },
  invalid_results: {
    status: 400,
    title: 'State of the result required',
    detail: 'the field "results" must be "live" or "closed"',
    cause: 'An embargo is set or lifted, and the request does not say which.',
    remedy: 'Send the field "results" with "closed" to embargo the result, or "live" to show it.',
  },
  bad_voter_token: {
    status: 401,
    title: 'Invalid voter token',
    detail: 'the token has no valid signature',
    cause:
      'The voter token in the header Authorization or in the cookie turnout_voter was not signed with a current key, or this site accepts only voters with a token and the request has none.',
    remedy:
      'Send the token exactly as it was issued. In a browser, delete the cookies of the site. The vote was not captured.',
  },
  bad_credentials: {
    status: 401,
    title: 'Invalid credentials',
    detail: 'the token has expired',
    cause:
      'The issuer did not accept the credential: its signature, issuer, audience or time is wrong, or the challenge was not solved.',
    remedy: 'Log in again, or solve the challenge again, and send the new credential. No token was issued.',
  },
  unauthorized: {
    status: 401,
    title: 'Authentication required',
    detail: 'the dashboard requires a name and a password',
    cause: 'The dashboard requires a name and a password, and the request has none or wrong ones.',
    remedy: 'Send the name and the password of an operator with HTTP Basic authentication.',
  },
  viewer: {
    status: 403,
    title: 'Viewers change nothing',
    detail: 'the user of this request may look, but change nothing',
    cause: 'The request would change something, and its user is a viewer.',
    remedy: 'Send the request with the name and the password of an operator.',
  },
  cross_site: {
    status: 403,
    title: 'Cross-site request',
    detail: 'the request comes from another origin',
    cause: 'A page of another site made the browser send this request, so it was refused.',
    remedy: 'Send the request from the page of this site, or from a program, which sends no Origin header.',
  },
  poll_not_open: {
    status: 403,
    title: 'Poll not open yet',
    detail: 'the poll opens later',
    cause: 'The poll accepts votes from its time of opening on. The vote was not captured.',
    remedy: 'Read opensAt of the poll and vote after it.',
  },
  poll_closed: {
    status: 403,
    title: 'Poll closed',
    detail: 'the poll has closed',
    cause: 'The poll accepts no more votes. The vote was not captured.',
    remedy: 'Do not retry. The votes accepted before the close count.',
  },
  embargoed: {
    status: 403,
    title: 'Result embargoed',
    detail: 'the result is shown once it is final',
    cause: 'The result of this poll is not shown before it is final.',
    remedy: 'Ask again after the poll has closed and every accepted vote is counted.',
  },
  not_final: {
    status: 404,
    title: 'Result not final',
    detail: 'the result of the poll is not final, so there is no evidence of it yet',
    cause:
      'Evidence is stored when a result becomes final: after the poll has closed and every accepted vote is counted.',
    remedy: 'Read the results of the poll until their status is final, then ask again.',
  },
  not_found: {
    status: 404,
    title: 'Not found',
    detail: 'nothing has this path',
    cause: 'Nothing has this path and method.',
    remedy: 'Compare the address with the API description, at /openapi.json of the results.',
  },
  unknown_job: {
    status: 404,
    title: 'Unknown job',
    detail:
      'Postgres does not have these in a ledger yet; try again in a few seconds: frontend01-k3x9abcdefghi.mh3k2a-x7.42',
    cause: 'A worker has not mirrored the ledger with these jobs to Postgres yet.',
    remedy: 'Try again in a few seconds. Nothing was written off.',
  },
  unknown_node: {
    status: 404,
    title: 'Unknown node',
    detail: 'no node in use has this id or name',
    cause: 'No node in use has this id or name. A retired node cannot be changed.',
    remedy: 'Take the id of the node from the dashboard, or from nodes in the JSON at /ledger.',
  },
  unknown_poll: {
    status: 404,
    title: 'Unknown poll',
    detail: 'the address names no poll',
    cause: 'The address names no poll.',
    remedy: 'Compare the id with the polls file. A new poll reaches every handler within seconds.',
  },
  poll_final: {
    status: 409,
    title: 'Poll final',
    detail: 'its result is final, so it cannot be opened again',
    cause: 'The result of the poll is final, and a final result never changes.',
    remedy: 'Declare a new poll.',
  },
  invalid_change: {
    status: 409,
    title: 'Change refused',
    detail: 'the new time to close has passed; close the poll instead',
    cause: 'The change makes no sense for the present state of the poll.',
    remedy: 'The detail states why. Read the state of the poll, then send another change.',
  },
  method_not_allowed: {
    status: 405,
    title: 'Method not allowed',
    detail: 'send votes with POST',
    cause: 'Votes are sent with POST.',
    remedy: 'Use the method in the header Allow.',
  },
  ambiguous_node: {
    status: 409,
    title: 'Ambiguous name',
    detail: 'several nodes in use have this name; use the id',
    cause: 'Several nodes in use have this name.',
    remedy: 'Use the id of the node, which is unique.',
  },
  job_counted: {
    status: 409,
    title: 'Job counted or written off',
    detail: 'these were counted or written off in the meantime: frontend01-k3x9abcdefghi.mh3k2a-x7.42',
    cause:
      'Some of the jobs were counted or written off since the audit named them. Nothing was written off.',
    remedy: 'Leave these jobs out.',
  },
  not_at_fault: {
    status: 409,
    title: 'Job neither failed nor lost',
    detail:
      'the audit names these neither as failed nor as lost, so they may still be counted: frontend01-k3x9abcdefghi.mh3k2a-x7.42',
    cause:
      'Some of the jobs are neither failed nor lost, so they may still be counted. Nothing was written off.',
    remedy: 'Write off only jobs that the audit names as failed or lost.',
  },
  still_reachable: {
    status: 409,
    title: 'Node reachable',
    detail: 'its Redis responds, so its votes can still be counted; retire it instead',
    cause: 'The Redis of the node responds, so its votes can still be counted.',
    remedy: 'Retire the node. Write off only a node that will not return.',
  },
  too_large: {
    status: 413,
    title: 'Request too large',
    detail: 'the body must not exceed 1024 bytes',
    cause: 'The body exceeds its limit, which the detail states.',
    remedy: 'Send only the documented fields.',
  },
  unsupported_media_type: {
    status: 415,
    title: 'Unsupported media type',
    detail: 'send the vote as application/json or application/x-www-form-urlencoded',
    cause: 'The header Content-Type names neither JSON nor a form.',
    remedy: 'Send the vote as application/json or application/x-www-form-urlencoded.',
  },
  unknown_choice: {
    status: 422,
    title: 'Unknown choice',
    detail: 'the poll has no such choice',
    cause: 'The poll has no choice with this id. The vote was not captured.',
    remedy: 'Send the id of one of the choices, not its label.',
  },
  too_many: {
    status: 429,
    title: 'Too many requests',
    detail: 'too many requests from this address',
    cause:
      'The proxy or the issuer received too many POST requests from this address, and nothing was captured and no token issued; or the dashboard received too many wrong passwords from it.',
    remedy: TRY_LATER,
  },
  internal: {
    status: 500,
    title: 'Internal error',
    detail: 'the request failed because of an internal error',
    cause: 'The request failed because of an error of the server, whose log has the cause.',
    remedy: 'Report it to the operators with the time of the request.',
  },
  request_timeout: {
    status: 408,
    title: 'Request timeout',
    detail: 'the request did not arrive within 5 s',
    cause: 'The proxy did not receive the whole request in time. The request reached no handler.',
    remedy: 'Send the same request again.',
  },
  bad_gateway: {
    status: 502,
    title: 'Bad gateway',
    detail: 'the task broke the connection or sent an invalid answer; it may have processed the request',
    cause:
      'The handler ended, or its connection broke, while the proxy waited for its answer. A vote may have been captured.',
    remedy: 'Send the same vote again, with the same token or idempotency key, so that both are one voter.',
  },
  gateway_timeout: {
    status: 504,
    title: 'Gateway timeout',
    detail: 'the task did not answer in time; it may have processed the request',
    cause: 'The handler did not answer the proxy in time. A vote may have been captured.',
    remedy: 'Send the same vote again, with the same token or idempotency key, so that both are one voter.',
  },
  no_backend: {
    status: 503,
    title: 'At capacity',
    detail: 'no handler can take the request now',
    cause:
      'Every handler is at its limit of concurrent requests, or none is ready. The request reached no handler.',
    remedy: TRY_LATER,
  },
  not_captured: {
    status: 503,
    title: 'Vote not captured',
    detail: 'the buffer is full',
    cause:
      'The handler could not write the vote to disk in time: more votes arrive than it can write, or its Redis is down. In rare cases such a vote still counts, once.',
    remedy: `${TRY_LATER} Send the cookie or the token of this answer with it, so that both requests are one voter.`,
  },
  not_issued: {
    status: 503,
    title: 'Token not issued',
    detail: 'the credential cannot be checked now',
    cause: 'The service that checks credentials does not answer, or too many checks are under way.',
    remedy: TRY_LATER,
  },
  results_unavailable: {
    status: 503,
    title: 'Results unavailable',
    detail: 'the results cannot be read now',
    cause:
      'The database cannot be read now, or this process already serves as many streams or receipt look-ups as it may. Votes are captured and counted all the same.',
    remedy: TRY_LATER,
  },
} as const satisfies Readonly<Record<string, ProblemKind>>;

export type ProblemCode = keyof typeof PROBLEMS;

/** Returns a problem to answer with; `detail` replaces the documented one. */
export function problem(code: ProblemCode, detail: string = PROBLEMS[code].detail): Problem {
  const { status, title } = PROBLEMS[code];
  return { status, code, title, detail };
}
