import type { IncomingMessage } from 'node:http';
import type { Context } from 'hono';
import { prefersHtml } from '../web/accept.ts';
import { Problem } from './problem.ts';

/** The headers of a request. */
export interface RequestHeaders {
  /** @param name in lower case */
  header(name: string): string | undefined;
}

/** The parts of a request that a vote needs, read at the least cost that the server allows. */
export interface VoteRequest extends RequestHeaders {
  /**
   * Reads the body as text.
   *
   * @returns `undefined` when it exceeds `bytesMax`; the rest then stays unread
   * @throws Problem `malformed` when the connection closes before its end
   */
  body(bytesMax: number): Promise<string | undefined>;
}

/**
 * Returns the request of a Hono context. Behind a socket it reads Node's request, because building Fetch's view of it
 * costs more than all checks of a vote. `app.request()` has Fetch's view only.
 */
export function requestOf(c: Context): VoteRequest {
  const incoming = (c.env as { readonly incoming?: IncomingMessage } | undefined)?.incoming;
  return incoming ? nodeRequest(incoming) : fetchRequest(c);
}

/** Whether a page's form sent the vote, so that a browser shows the answer. */
export function isBrowserForm(request: RequestHeaders): boolean {
  return (
    prefersHtml(request) && !request.header('content-type')?.toLowerCase().startsWith('application/json')
  );
}

/**
 * Whether no page of another origin makes a browser send the request, with the voter's cookie. Browsers state the relation
 * in `Sec-Fetch-Site`, older ones the origin in `Origin`; programs send neither.
 */
export function isSameOrigin(request: RequestHeaders): boolean {
  const site = request.header('sec-fetch-site');
  return site === undefined ? hasOwnOrigin(request) : site === 'same-origin' || site === 'none';
}

function hasOwnOrigin(request: RequestHeaders): boolean {
  const origin = request.header('origin');
  if (origin === undefined) return true;
  return URL.canParse(origin) && new URL(origin).host === request.header('host');
}

function nodeRequest(incoming: IncomingMessage): VoteRequest {
  const { headers } = incoming;
  return {
    header: (name) => headers[name] as string | undefined,
    body: (bytesMax) => readIncoming(incoming, bytesMax),
  };
}

function readIncoming(incoming: IncomingMessage, bytesMax: number): Promise<string | undefined> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    incoming.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > bytesMax) resolve(undefined);
      else chunks.push(chunk);
    });
    incoming.on('end', () => resolve(decode(chunks)));
    incoming.on('close', () => {
      if (!incoming.readableEnded)
        reject(new Problem('malformed', 'the connection closed before the end of the body'));
    });
  });
}

/** A vote is so small that it almost always arrives in one chunk. */
function decode(chunks: readonly Buffer[]): string {
  const [first, ...more] = chunks;
  if (first === undefined) return '';
  return (more.length === 0 ? first : Buffer.concat(chunks)).toString('utf8');
}

function fetchRequest({ req }: Context): VoteRequest {
  return {
    header: (name) => req.header(name),
    body: (bytesMax) => readBody(req.raw.body, bytesMax),
  };
}

/** Reads a body as text; `undefined` when it exceeds `bytesMax`, and the rest stays unread. */
export async function readBody(
  body: ReadableStream<Uint8Array> | null,
  bytesMax: number,
): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body ?? []) {
    bytes += chunk.byteLength;
    if (bytes > bytesMax) return undefined;
    chunks.push(Buffer.from(chunk));
  }
  return decode(chunks);
}
