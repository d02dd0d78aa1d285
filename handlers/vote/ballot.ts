import { Problem } from './problem.ts';
import type { VoteRequest } from './request.ts';

/** Far above any vote: a choice id has at most 63 characters. */
const BODY_BYTES_MAX = 1_024;

const JSON_TYPE = 'application/json';
const FORM_TYPE = 'application/x-www-form-urlencoded';

type BallotFormat = 'json' | 'form';

/**
 * Returns the format of the body by its media type.
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
 * Returns the choice in the body, any text.
 *
 * @throws Problem `too_large` or `malformed`
 */
export async function readChoice(request: VoteRequest, format: BallotFormat): Promise<string> {
  const body = await readBody(request);
  const choice = format === 'json' ? parseJsonChoice(body) : new URLSearchParams(body).get('choice');
  if (typeof choice !== 'string') {
    throw new Problem('malformed', 'the body must have a member "choice" with a string value');
  }
  return choice;
}

function parseJsonChoice(body: string): unknown {
  try {
    const json: unknown = JSON.parse(body);
    return typeof json === 'object' && json !== null ? (json as { choice?: unknown }).choice : undefined;
  } catch {
    throw new Problem('malformed', 'the body is not JSON');
  }
}

/** Refuses a body whose declared length is too large before reading it, and a chunked one at the limit. */
async function readBody(request: VoteRequest): Promise<string> {
  const length = request.header('content-length');
  const isTooLarge = length !== undefined && Number(length) > BODY_BYTES_MAX;
  const body = isTooLarge ? undefined : await request.body(BODY_BYTES_MAX);
  if (body === undefined) throw new Problem('too_large', `the body must not exceed ${BODY_BYTES_MAX} bytes`);
  return body;
}
