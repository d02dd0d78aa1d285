import type { IncomingMessage } from 'node:http';
import type { Context } from 'hono';
import { Problem } from './problem.ts';

/** What a handler needs to know of a request, at the least cost that its server allows. */
export interface VoteRequest {
  /** @param name in lower case */
  header(name: string): string | undefined;
  /**
   * The body as text.
   *
   * @returns `undefined` when it has more than `bytesMax` bytes; the rest is left unread then
   * @throws Problem `malformed` when it ends too early
   */
  body(bytesMax: number): Promise<string | undefined>;
}

/**
 * The request behind a Hono context. On Node's own server it is asked directly: Fetch's view of it, made anew for every
 * request, would cost a vote more than all of its checks. Elsewhere, as in `app.request()`, Fetch's view is all there is.
 */
export function requestOf(c: Context): VoteRequest {
  const incoming = (c.env as { readonly incoming?: IncomingMessage } | undefined)?.incoming;
  return incoming ? nodeRequest(incoming) : fetchRequest(c);
}

/** A request of Node's own server. */
export function nodeRequest(incoming: IncomingMessage): VoteRequest {
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
    incoming.on('end', () => resolve(textOf(chunks)));
    incoming.on('close', () => {
      if (!incoming.readableEnded) reject(new Problem('malformed', 'the body ended too early'));
    });
  });
}

/** A vote is so small that it nearly always comes in one piece. */
function textOf(chunks: readonly Buffer[]): string {
  const [first, ...more] = chunks;
  if (first === undefined) return '';
  return (more.length === 0 ? first : Buffer.concat(chunks)).toString('utf8');
}

function fetchRequest({ req }: Context): VoteRequest {
  return {
    header: (name) => req.header(name),
    body: async (bytesMax) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      for await (const chunk of req.raw.body ?? []) {
        bytes += chunk.byteLength;
        if (bytes > bytesMax) return undefined;
        chunks.push(Buffer.from(chunk));
      }
      return textOf(chunks);
    },
  };
}
