import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createVoteApp } from '#handlers/vote/app.ts';
import { NotCapturedError } from '#handlers/vote/capture.ts';
import { createVoterTokens } from '#handlers/vote/voter.ts';
import type { Vote } from '#job';
import { recordLog } from '#kit/log.ts';
import { pollBook } from '#kit/polls.ts';
import { sendBytes, statusesOf } from '#kit/raw-http.ts';
import { until } from '#kit/until.ts';
import { Secret } from '#runtime/secret.ts';
import { type Listening, listen } from '#runtime/server.ts';

/**
 * The app behind a real socket, where it reads Node's request and @hono/node-server writes the response. Everything that
 * `app.test.ts` shows through Fetch's requests must hold here too.
 */

const CAST_AT = 1_763_812_345_678_901;
const tokens = createVoterTokens(new Secret('k'.repeat(32)));
const KNOWN = tokens.sign({ id: '019e0000-0000-7000-8000-000000000001', lastCastAt: 5, isIssued: false });
const ISSUED = tokens.sign({ id: '019e0000-0000-7000-8000-000000000002', lastCastAt: 5, isIssued: true });
const JSON_TYPE = 'content-type: application/json';
const FORM_TYPE = 'content-type: application/x-www-form-urlencoded';
const RECEIPT = 'frontend01.t0-1.1';

const choices = ['cats', 'dogs'].map((id) => ({ id, label: id }));
const polls = [
  { id: 'open', question: 'Cats or dogs?', choices },
  { id: 'closed', question: 'Too late?', choices, closesAt: 1 },
  { id: 'later', question: 'Too early?', choices, opensAt: 4_000_000_000_000 },
];

type Outcome = 'captured' | 'refused' | 'broken';

function createApp(admission: 'open' | 'issued', outcome: Outcome) {
  const captured: Vote[] = [];
  const capture = async (vote: Vote): Promise<string> => {
    captured.push(vote);
    if (outcome === 'refused') throw new NotCapturedError('the buffer is full');
    if (outcome === 'broken') throw new Error('broken');
    return RECEIPT;
  };
  const app = createVoteApp({
    polls: pollBook(polls, () => CAST_AT / 1_000),
    capture: { capture },
    tokens,
    clock: () => CAST_AT,
    admission,
    log: recordLog().log,
  });
  return { app, captured };
}

/** A request: its path, its headers except host and length, its body and its method. */
type Sent = [path: string, headers: readonly string[], body: string, method?: string];

const REQUESTS: readonly Sent[] = [
  ['/polls/open/votes', [JSON_TYPE], '{"choice":"cats"}'],
  ['/polls/open/votes', [`${JSON_TYPE}; charset=utf-8`], '{"choice":"dogs","more":1}'],
  ['/polls/open/votes', [FORM_TYPE], 'choice=cats'],
  ['/polls/open/votes', [FORM_TYPE, 'accept: text/html'], 'choice=cats'],
  ['/polls/open/votes', [FORM_TYPE, 'accept: text/html', 'x-forwarded-proto: https'], 'choice=cats'],
  ['/polls/open/votes', [FORM_TYPE, 'accept: text/html'], 'choice=birds'],
  ['/polls/open/votes', [JSON_TYPE, 'accept: text/html'], '{"choice":"birds"}'],
  ['/polls/open/votes', [JSON_TYPE, `cookie: a=b; turnout_voter=${KNOWN}; c=d`], '{"choice":"cats"}'],
  ['/polls/open/votes', [JSON_TYPE, `cookie: turnout_voter=${KNOWN}x`], '{"choice":"cats"}'],
  ['/polls/open/votes', [JSON_TYPE, 'cookie: turnout_voter='], '{"choice":"cats"}'],
  ['/polls/open/votes', [JSON_TYPE, `authorization: Bearer ${KNOWN}`], '{"choice":"cats"}'],
  ['/polls/open/votes', [JSON_TYPE, `authorization: Bearer ${ISSUED}`], '{"choice":"cats"}'],
  ['/polls/open/votes', [JSON_TYPE, `idempotency-key: ${'k'.repeat(16)}`], '{"choice":"cats"}'],
  ['/polls/open/votes', [JSON_TYPE, 'idempotency-key: short'], '{"choice":"cats"}'],
  ['/polls/open/votes', [JSON_TYPE, 'authorization: Basic x'], '{"choice":"cats"}'],
  ['/polls/open/votes', [JSON_TYPE, 'sec-fetch-site: cross-site'], '{"choice":"cats"}'],
  ['/polls/open/votes', [JSON_TYPE, 'origin: http://evil.test'], '{"choice":"cats"}'],
  ['/polls/open/votes', [JSON_TYPE, 'origin: http://vote.test'], '{"choice":"cats"}'],
  ['/polls/open/votes', [JSON_TYPE], '{"choice":"birds"}'],
  ['/polls/open/votes', [JSON_TYPE], '{"choice":1}'],
  ['/polls/open/votes', [JSON_TYPE], '{'],
  ['/polls/open/votes', [JSON_TYPE], ''],
  ['/polls/open/votes', ['content-type: text/plain'], 'cats'],
  ['/polls/open/votes', [], '{"choice":"cats"}'],
  ['/polls/open/votes', [JSON_TYPE], `{"choice":"${'x'.repeat(2_000)}"}`],
  ['/polls/open/votes?x=1', [JSON_TYPE], '{"choice":"cats"}'],
  ['/polls/%6Fpen/votes', [JSON_TYPE], '{"choice":"cats"}'],
  ['/polls/closed/votes', [JSON_TYPE], '{"choice":"cats"}'],
  ['/polls/later/votes', [FORM_TYPE, 'accept: text/html'], 'choice=cats'],
  ['/polls/none/votes', [JSON_TYPE], '{"choice":"cats"}'],
  ['/polls/open/votes', [JSON_TYPE], '{"choice":"cats"}', 'PUT'],
  ['/polls/open/votes', [], '', 'GET'],
  ['/polls/open/votes/', [JSON_TYPE], '{"choice":"cats"}'],
  ['/', ['accept: text/html'], '', 'GET'],
  ['/polls/open', ['accept: text/html', 'cookie: turnout_choice_open=dogs'], '', 'GET'],
  ['/polls/open', ['accept: application/json'], '', 'GET'],
];

describe.each(['open', 'issued'] as const)('with admission %s', (admission) => {
  describe.each<Outcome>(['captured', 'refused', 'broken'])('while votes are %s', (outcome) => {
    const { app } = createApp(admission, outcome);
    let server: Listening;
    beforeAll(async () => {
      server = await listen(app, 0, { hostname: '127.0.0.1' });
    });
    afterAll(() => server.close());

    test.each(REQUESTS)(
      'answers %s %j %s over a socket as without one',
      async (path, headers, body, method) => {
        const lines = [
          'host: vote.test',
          ...headers,
          ...(method === 'GET' ? [] : [`content-length: ${body.length}`]),
        ];
        const head = [`${method ?? 'POST'} ${path} HTTP/1.1`, 'connection: close', ...lines];
        const answer = parseAnswer(await sendBytes(server.port, [...head, '', body].join('\r\n')));

        const request = new Request(`http://vote.test${path}`, {
          method: method ?? 'POST',
          headers: lines.map((line) => line.split(': ') as [string, string]),
          ...(method === 'GET' ? {} : { body }),
        });
        expect(answer).toEqual(await readResponse(await app.request(request)));
      },
    );
  });
});

describe('a connection', () => {
  const { app, captured } = createApp('open', 'captured');
  let server: Listening;
  beforeAll(async () => {
    server = await listen(app, 0, { hostname: '127.0.0.1' });
  });
  afterAll(() => server.close());

  const vote = (choice: string, ...headers: string[]): string =>
    formatVote([JSON_TYPE, ...headers], `{"choice":"${choice}"}`);

  test('stays open for the next vote, and answers pipelined votes in their order', async () => {
    const bytes = vote('cats') + vote('birds') + vote('dogs', 'connection: close');
    const answers = await sendBytes(server.port, bytes);
    expect(statusesOf(answers)).toEqual([202, 422, 202]);
    expect(answers.match(/^content-length: \d+\r$/gim)).toHaveLength(3);
    expect(answers).not.toMatch(/transfer-encoding/i);
  });

  test('stays usable after a vote that is refused with its body unread', async () => {
    const refused = formatVote(['content-type: text/plain'], 'x'.repeat(1_000));
    const foreign = formatVote([JSON_TYPE, 'sec-fetch-site: cross-site'], '{"choice":"cats"}');
    const answers = await sendBytes(server.port, refused + foreign + vote('dogs', 'connection: close'));
    expect(statusesOf(answers)).toEqual([415, 403, 202]);
  });

  test('is closed after a body that is too large, whether its length is declared or not', async () => {
    const long = 'x'.repeat(1_025);
    const declared = formatVote([JSON_TYPE], long);
    const chunked = formatChunked([long.slice(0, 500), long.slice(500)]);
    for (const bytes of [declared, chunked]) {
      const answers = await sendBytes(server.port, bytes + vote('cats'));
      expect(statusesOf(answers)).toEqual([413]);
      expect(answers).toMatch(/^connection: close\r$/im);
    }
  });

  test('carries a body in chunks', async () => {
    const answers = await sendBytes(
      server.port,
      formatChunked(['{"choice":', '"cats"}'], 'connection: close'),
    );
    expect(statusesOf(answers)).toEqual([202]);
  });

  test('carries a body that arrives late and splits a character', async () => {
    const body = Buffer.from('{"choice":"cats","more":"é"}');
    const split = body.indexOf(0xc3) + 1;
    const before = captured.length;
    const socket = connect(server.port, '127.0.0.1');
    await once(socket, 'connect');
    socket.write(formatHead([JSON_TYPE, 'connection: close', `content-length: ${body.length}`]));
    socket.write(body.subarray(0, split));
    await until(
      'the request has arrived',
      async () => statusesOf(await sendBytes(server.port, vote('cats', 'connection: close'))).length === 1,
    );
    expect(captured.length).toBe(before + 1);
    let answers = '';
    socket.on('data', (data) => {
      answers += data.toString('latin1');
    });
    socket.write(body.subarray(split));
    await once(socket, 'close');
    expect(statusesOf(answers)).toEqual([202]);
    expect(captured.length).toBe(before + 2);
  });

  test('that breaks in the middle of a body captures nothing', async () => {
    const before = captured.length;
    const socket = connect(server.port, '127.0.0.1');
    await once(socket, 'connect');
    socket.write(`${formatHead([JSON_TYPE, 'content-length: 17'])}{"cho`);
    await until(
      'the request has arrived',
      async () => statusesOf(await sendBytes(server.port, vote('cats', 'connection: close'))).length === 1,
    );
    socket.destroy();
    await sendBytes(server.port, vote('dogs', 'connection: close'));
    expect(captured.length).toBe(before + 2);
  });

  test('carries both cookies of a browser form', async () => {
    const bytes = formatVote([FORM_TYPE, 'accept: text/html', 'connection: close'], 'choice=cats');
    const answer = await sendBytes(server.port, bytes);
    expect(statusesOf(answer)).toEqual([303]);
    expect(answer).toMatch(/^content-length: 0\r$/im);
    expect(answer.match(/^set-cookie: turnout_\w+/gim)?.length).toBe(2);
  });
});

function formatHead(headers: readonly string[]): string {
  return ['POST /polls/open/votes HTTP/1.1', 'host: vote.test', ...headers, '', ''].join('\r\n');
}

function formatVote(headers: readonly string[], body: string): string {
  return formatHead([...headers, `content-length: ${body.length}`]) + body;
}

function formatChunked(chunks: readonly string[], ...headers: string[]): string {
  const body = [...chunks, ''].map((chunk) => `${chunk.length.toString(16)}\r\n${chunk}\r\n`).join('');
  return formatHead([JSON_TYPE, 'transfer-encoding: chunked', ...headers]) + body;
}

interface Answer {
  readonly status: number;
  readonly headers: readonly string[];
  readonly body: string;
}

/** Headers of the connection, which only a socket has. */
const CONNECTION_HEADERS = /^(date|connection|keep-alive|content-length|transfer-encoding): /;

function parseAnswer(answer: string): Answer {
  const [head = '', ...rest] = answer.split('\r\n\r\n');
  const [, ...headers] = head.split('\r\n');
  const body = Buffer.from(rest.join('\r\n\r\n'), 'latin1').toString('utf8');
  const lines = headers.map((line) => line.replace(/^[^:]+/, (name) => name.toLowerCase()));
  return { status: statusesOf(answer)[0] ?? 0, headers: normalize(lines), body };
}

async function readResponse(response: Response): Promise<Answer> {
  const headers = [...response.headers].map(([name, value]) => `${name}: ${value}`);
  return { status: response.status, headers: normalize(headers), body: await response.text() };
}

/** Removes what differs between any two answers: a new voter's token and the delay before a retry. */
function normalize(headers: readonly string[]): string[] {
  return headers
    .filter((line) => !CONNECTION_HEADERS.test(line))
    .map((line) =>
      line
        .replace(/^retry-after: [1-5]$/, 'retry-after: some')
        .replace(/turnout_voter=[\w-]{76}/, 'turnout_voter=token'),
    )
    .toSorted();
}
