import type { Content, HandlerApi } from './operation.ts';

const PAGE: Content = { schema: { type: 'string', description: 'The page of the poll, for browsers.' } };
const SHARED = ['ETag', 'Cache-Control', 'Vary'] as const;
const BALLOT: Content = { schema: 'Ballot', example: { choice: 'cats' } };

export const VOTE: HandlerApi = {
  name: 'vote',
  description: 'Captures votes. One handler runs on every frontend node.',
  port: 8080,
  operations: [
    {
      method: 'get',
      path: '/polls/{poll}',
      id: 'getPollPage',
      summary: 'The page of a poll',
      description: 'The same for everybody: it sets no cookie and shows no choice.',
      answers: {
        200: {
          description: 'The page.',
          headers: SHARED,
          headersAtTimes: ['Content-Encoding'],
          content: { 'text/html': PAGE },
        },
        304: { description: 'The page is the one that If-None-Match names.', headers: SHARED },
      },
      problems: ['unknown_poll'],
      hasPages: true,
    },
    {
      method: 'get',
      path: '/polls/{poll}.json',
      id: 'getPoll',
      summary: 'The definition of a poll',
      description: 'The same for everybody.',
      answers: {
        200: {
          description: 'The poll.',
          headers: SHARED,
          headersAtTimes: ['Content-Encoding'],
          content: {
            'application/json': {
              schema: 'PollDefinition',
              example: {
                poll: 'cats-vs-dogs',
                question: 'Cats or dogs?',
                choices: [
                  { id: 'cats', label: 'Cats' },
                  { id: 'dogs', label: 'Dogs' },
                ],
                opensAt: null,
                closesAt: '2027-02-08T03:30:00.000Z',
                phase: 'open',
              },
            },
          },
        },
        304: { description: 'The definition is the one that If-None-Match names.', headers: SHARED },
      },
      problems: ['unknown_poll'],
      hasPages: true,
    },
    {
      method: 'get',
      path: '/polls/{poll}/ballot',
      id: 'getBallotPage',
      summary: 'The page of a poll for one voter',
      description: 'For browsers without script: it shows the choice of the voter.',
      answers: {
        200: {
          description: 'The page. That of a visitor without a token sets the voter cookie.',
          headers: ['Cache-Control'],
          headersAtTimes: ['Set-Cookie'],
          content: { 'text/html': PAGE },
        },
      },
      problems: ['unknown_poll'],
      hasPages: true,
    },
    {
      method: 'post',
      path: '/polls/{poll}/votes',
      id: 'castVote',
      summary: 'Cast or change a vote',
      description:
        'Answers 202 only after the vote is on disk. A voter counts once, with the last vote. A voter without a token is a new one, or the one of the Idempotency-Key; where VOTER_ADMISSION is "issued", only voters with a token of the issuer are admitted. A browser form, which accepts text/html, gets a redirect to the page instead of 202, and a page instead of each problem.',
      security: ['none', 'voterCookie', 'voterToken'],
      requestHeaders: ['Idempotency-Key'],
      body: { 'application/json': BALLOT, 'application/x-www-form-urlencoded': BALLOT },
      answers: {
        202: {
          description:
            'The vote is on disk and will be counted. Location is present where RECEIPTS_URL is set.',
          headers: ['Cache-Control', 'Set-Cookie'],
          headersAtTimes: ['Location'],
          content: {
            'application/json': {
              schema: 'AcceptedVote',
              example: {
                status: 'accepted',
                poll: 'cats-vs-dogs',
                choice: 'cats',
                castAt: '2027-02-07T23:31:00.000001Z',
                receipt: 'frontend01-k3x9abcdefghi.mh3k2a-x7.42',
              },
            },
          },
        },
        303: {
          description: "The vote is on disk. Location is the page that shows the voter's choice.",
          headers: ['Location', 'Set-Cookie'],
        },
      },
      problems: [
        'malformed',
        'bad_voter_token',
        'cross_site',
        'poll_not_open',
        'poll_closed',
        'unknown_poll',
        'method_not_allowed',
        'too_large',
        'unsupported_media_type',
        'unknown_choice',
        'not_captured',
      ],
      problemHeaders: {
        // A poll may close after the voter was identified and before the vote is in a job.
        403: { headersAtTimes: ['Set-Cookie'] },
        503: { headers: ['Set-Cookie'] },
      },
      hasPages: true,
    },
  ],
};
