import type { Answer, HandlerApi, Operation } from './operation.ts';

const UNCHANGED: Answer = {
  description: 'The answer is the one that If-None-Match names.',
  headers: ['ETag', 'Cache-Control'],
};
const CHOICES = [
  { id: 'cats', label: 'Cats', votes: 2 },
  { id: 'dogs', label: 'Dogs', votes: 1 },
];
const EXAMPLE = {
  poll: 'cats-vs-dogs',
  question: 'Cats or dogs?',
  total: 3,
  choices: CHOICES,
  status: 'final',
  finalAt: '2027-02-08T03:30:09.120Z',
  ledger: { accepted: 3, committed: 3 },
  asOf: '2027-02-08T03:31:00.000Z',
};

const RESULTS_OF_A_POLL: readonly Operation[] = [
  {
    method: 'get',
    path: '/polls/{poll}/results',
    id: 'getResults',
    summary: 'The results of a poll',
    description:
      'At most a second old. Provisional until the poll has closed and every accepted vote is counted.',
    answers: {
      200: {
        description: 'The results.',
        headers: ['ETag', 'Cache-Control'],
        content: { 'application/json': { schema: 'Results', example: EXAMPLE } },
      },
      304: UNCHANGED,
    },
    problems: ['unknown_poll', 'embargoed', 'results_unavailable'],
  },
  {
    method: 'get',
    path: '/polls/{poll}/results.csv',
    id: 'getResultsAsCsv',
    summary: 'The results of a poll as CSV',
    description: 'A header line, then a line for each choice (RFC 4180).',
    answers: {
      200: {
        description: 'The results.',
        headers: ['ETag', 'Cache-Control', 'Content-Disposition'],
        content: {
          'text/csv': {
            schema: { type: 'string' },
            example:
              'poll,question,choice,label,votes,status,final_at,written_off,as_of\r\ncats-vs-dogs,Cats or dogs?,cats,Cats,2,provisional,,,2027-02-07T23:31:00.000Z\r\n',
          },
        },
      },
      304: { ...UNCHANGED, headers: ['ETag', 'Cache-Control', 'Content-Disposition'] },
    },
    problems: ['unknown_poll', 'embargoed', 'results_unavailable'],
  },
  {
    method: 'get',
    path: '/polls/{poll}/results/stream',
    id: 'streamResults',
    summary: 'The results of a poll as server-sent events',
    description:
      'An event at once and after each change, at most one a second; a comment every 15 s keeps it open.',
    answers: {
      200: {
        description: 'The data of each event is the JSON of the results.',
        headers: ['Cache-Control', 'X-Accel-Buffering'],
        content: {
          'text/event-stream': {
            schema: { type: 'string' },
            example: `data: ${JSON.stringify(EXAMPLE)}\nid: 1802057460000\nretry: 2417\n\n`,
          },
        },
      },
    },
    problems: ['unknown_poll', 'embargoed', 'results_unavailable'],
  },
  {
    method: 'get',
    path: '/polls/{poll}/results/evidence',
    id: 'getEvidence',
    summary: 'The evidence of a final result',
    description:
      'What was stored when the result became final, and never changes. Every job of a source up to lastJob is counted or listed in writtenOffJobs. A source that was fenced, before or after the close, has no entry: all its jobs up to the fence are counted.',
    answers: {
      200: {
        description: 'The evidence.',
        headers: ['ETag', 'Cache-Control'],
        content: {
          'application/json': {
            schema: 'Evidence',
            example: {
              poll: 'cats-vs-dogs',
              revision: 3,
              finalAt: '2027-02-08T03:30:09.120Z',
              choices: CHOICES,
              sources: [{ source: 'frontend01-k3x9abcdefghi.mh3k2a-x7', lastJob: 42 }],
              writtenOff: [],
              writtenOffJobs: [],
            },
          },
        },
      },
      304: UNCHANGED,
    },
    problems: ['unknown_poll', 'not_final', 'results_unavailable'],
  },
];

export const RESULTS: HandlerApi = {
  name: 'results',
  description: 'Shows results and receipts. Any number of viewers cost one query a second.',
  port: 8081,
  operations: [
    ...RESULTS_OF_A_POLL,
    {
      method: 'get',
      path: '/receipts/{receipt}',
      id: 'getReceipt',
      summary: 'Whether a vote is counted',
      description:
        'Takes the receipt of an accepted vote. It never reveals the choice. A client that accepts text/html gets a page.',
      answers: {
        200: {
          description: 'The status of the receipt.',
          headers: ['Cache-Control', 'Vary'],
          headersAtTimes: ['Refresh'],
          content: {
            'text/html': { schema: { type: 'string' } },
            'application/json': {
              schema: 'ReceiptStatus',
              example: { receipt: 'frontend01-k3x9abcdefghi.mh3k2a-x7.42', status: 'counted' },
            },
          },
        },
      },
      problems: ['results_unavailable'],
    },
    {
      method: 'get',
      path: '/openapi.json',
      id: 'getDescription',
      summary: 'This description',
      description: 'Changes only with a release.',
      answers: {
        200: {
          description: 'An OpenAPI 3.1 document.',
          headers: ['ETag', 'Cache-Control'],
          content: {
            'application/json': { schema: { type: 'object' } },
          },
        },
        304: UNCHANGED,
      },
      problems: [],
    },
    {
      method: 'get',
      path: '/problems/{code}',
      id: 'getProblem',
      summary: 'The page of a problem',
      description: 'Says what happened and what to do. The type of each problem links to it.',
      answers: {
        200: {
          description: 'The page.',
          headers: ['ETag', 'Cache-Control'],
          content: { 'text/html': { schema: { type: 'string' } } },
        },
        304: UNCHANGED,
      },
      problems: ['not_found'],
    },
  ],
};
