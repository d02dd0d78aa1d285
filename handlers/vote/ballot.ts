import { Problem } from './problem.ts';
import type { VoteRequest } from './request.ts';

/** No vote needs more. */
export const BODY_BYTES_MAX = 1_024;

const JSON_TYPE = 'application/json';
const FORM_TYPE = 'application/x-www-form-urlencoded';

/** How a vote came in: as JSON from a program, or as a form from a page. */
export type BallotFormat = 'json' | 'form';

/**
 * The format of the request's body, by its media type.
 *
 * @throws Problem `unsupported_media_type`
 */
export function ballotFormat(request: VoteRequest): BallotFormat {
  const type = request.header('content-type')?.split(';', 1)[0]?.trim().toLowerCase();
  if (type === JSON_TYPE) return 'json';
  if (type === FORM_TYPE) return 'form';
  throw new Problem('unsupported_media_type', `send the vote as ${JSON_TYPE} or ${FORM_TYPE}`);
}

/**
 * The choice in the request's body.
 *
 * @throws Problem `too_large` or `malformed`
 */
export async function readChoice(request: VoteRequest, format: BallotFormat): Promise<string> {
  const body = await readBody(request);
  const choice = format === 'json' ? choiceInJson(body) : new URLSearchParams(body).get('choice');
  if (typeof choice !== 'string')
    throw new Problem('malformed', 'the body must have the text member "choice"');
  return choice;
}

function choiceInJson(body: string): unknown {
  try {
    const json: unknown = JSON.parse(body);
    return typeof json === 'object' && json !== null ? (json as { choice?: unknown }).choice : undefined;
  } catch {
    throw new Problem('malformed', 'the body is not JSON');
  }
}

/** A body whose length is announced is refused unread when it is too long; one in chunks is read no further than that. */
async function readBody(request: VoteRequest): Promise<string> {
  const length = request.header('content-length');
  const isTooLarge = length !== undefined && Number(length) > BODY_BYTES_MAX;
  const body = isTooLarge ? undefined : await request.body(BODY_BYTES_MAX);
  if (body === undefined)
    throw new Problem('too_large', `the body must have at most ${BODY_BYTES_MAX} bytes`);
  return body;
}
