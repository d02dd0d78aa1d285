import type { IncomingMessage, ServerResponse } from 'node:http';
import { BODY_BYTES_MAX } from './ballot.ts';
import { createPages } from './page.ts';
import { nodeRequest } from './request.ts';
import { type Answer, createVoting, type VotingParts } from './voting.ts';

/**
 * Takes plain votes from Node's server as they are, without a detour through Fetch's requests and responses, which
 * cost a vote more than all that is done with it. The rules are those of `createVoteApp`; whatever is not plainly a
 * vote of known, small length for a known poll is left to that app.
 *
 * @returns a listener that says whether it has taken the request
 */
export function createVoteListener(
  parts: VotingParts,
): (incoming: IncomingMessage, outgoing: ServerResponse) => boolean {
  const pollByUrl = new Map(parts.polls.map((poll) => [`/polls/${poll.id}/votes`, poll]));
  const voting = createVoting(parts, createPages(parts.polls));

  return (incoming, outgoing) => {
    const poll = pollByUrl.get(incoming.url ?? '');
    const length = incoming.headers['content-length'];
    if (!poll || incoming.method !== 'POST' || length === undefined || Number(length) > BODY_BYTES_MAX) {
      return false;
    }
    void voting.take(poll, nodeRequest(incoming)).then((answer) => send(outgoing, answer));
    return true;
  };
}

function send(outgoing: ServerResponse, { status, headers, body }: Answer): void {
  outgoing.writeHead(status, { ...headers, 'Content-Length': Buffer.byteLength(body) });
  outgoing.end(body);
}
