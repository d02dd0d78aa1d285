import type { HonoRequest } from 'hono';
import { Problem } from './problem.ts';

/** No vote needs more. */
const BODY_BYTES_MAX = 1_024;

const JSON_TYPE = 'application/json';
const FORM_TYPE = 'application/x-www-form-urlencoded';

/** How a vote came in: as JSON from a program, or as a form from a page. */
export type BallotFormat = 'json' | 'form';

/**
 * The format of the request's body, by its media type.
 *
 * @throws Problem `unsupported_media_type`
 */
export function ballotFormat(request: HonoRequest): BallotFormat {
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
export async function readChoice(request: HonoRequest, format: BallotFormat): Promise<string> {
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
async function readBody(request: HonoRequest): Promise<string> {
  const length = request.header('content-length');
  if (length === undefined) return readChunks(request);
  if (Number(length) > BODY_BYTES_MAX) throw tooLarge();
  return request.text();
}

async function readChunks(request: HonoRequest): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of request.raw.body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > BODY_BYTES_MAX) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function tooLarge(): Problem {
  return new Problem('too_large', `the body must have at most ${BODY_BYTES_MAX} bytes`);
}
