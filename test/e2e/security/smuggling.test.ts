import { describe, expect, test } from 'vitest';
import { sendBytes, statusesOf } from '#kit/raw-http.ts';
import { cast, INTERNALS, VOTES, vote, votesCaptured } from './fixture.ts';

const HEAD = `POST ${VOTES} HTTP/1.1\r\nHost: vote.test\r\nContent-Type: application/x-www-form-urlencoded\r\n`;
const SENTINEL = 'GET /sentinel HTTP/1.1\r\nHost: vote.test\r\nConnection: close\r\n\r\n';
const HIDDEN = `POST ${VOTES} HTTP/1.1\r\nHost: vote.test\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{"choice":"dogs"}`;
const withLength = (head: string, body: string) => `${head}Content-Length: ${body.length}\r\n\r\n${body}`;
const chunked = (body: string) => `${HEAD}Transfer-Encoding: chunked\r\n\r\n${body}`;

describe('a smuggled request', () => {
  /** Each is followed by a request for an unknown path: its 404 is the last response of a connection that stayed open. */
  test.each<[string, string, number[], number]>([
    ['a valid vote', withLength(HEAD, 'choice=cats'), [202, 404], 1],
    ['a valid vote in chunks', chunked('b\r\nchoice=cats\r\n0\r\n\r\n'), [202, 404], 1],
    ['an extension of a chunk', chunked('b;a=b\r\nchoice=cats\r\n0\r\n\r\n'), [202, 404], 1],
    ['trailers', chunked('b\r\nchoice=cats\r\n0\r\nHost: evil.test\r\n\r\n'), [202, 404], 1],
    ['a request in a field of the form', withLength(HEAD, `choice=cats&x=\r\n\r\n${HIDDEN}`), [202, 404], 1],
    [
      'a request in the body of one refused for its path',
      withLength('POST /nowhere HTTP/1.1\r\nHost: vote.test\r\n', HIDDEN),
      [404, 404],
      0,
    ],
    [
      'a request in the body of one refused for its type',
      withLength(`POST ${VOTES} HTTP/1.1\r\nHost: vote.test\r\nContent-Type: text/plain\r\n`, HIDDEN),
      [415, 404],
      0,
    ],
    [
      'a request in the body of a method without one',
      withLength(`DELETE ${VOTES} HTTP/1.1\r\nHost: vote.test\r\n`, HIDDEN),
      [405, 404],
      0,
    ],
    [
      'a request in the body of a GET',
      withLength('GET / HTTP/1.1\r\nHost: vote.test\r\n', HIDDEN),
      [200, 404],
      0,
    ],
    ['a request in a body that is too large', withLength(HEAD, HIDDEN.repeat(20)), [413], 0],
    [
      'chunks, then a length (TE.CL)',
      `${HEAD}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n`,
      [400],
      0,
    ],
    ['an unknown transfer coding', `${HEAD}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`, [400], 0],
    [
      'a chunked coding that is not the last',
      `${HEAD}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n`,
      [400],
      0,
    ],
    ['a coding with a tab', `${HEAD}Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n`, [400], 0],
    ['a space before the colon of a header', `${HEAD}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n`, [400], 0],
    [
      'two codings and a length',
      `${HEAD}Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n`,
      [400],
      0,
    ],
    [
      'line ends without CR in the head',
      HEAD.replaceAll('\r\n', '\n').concat('Content-Length: 11\n\nchoice=cats'),
      [400],
      0,
    ],
    ['a line end without CR after a header', `${HEAD}X: a\nContent-Length: 11\r\n\r\nchoice=cats`, [400], 0],
    ['a line end without LF after a header', `${HEAD}X: a\rContent-Length: 11\r\n\r\nchoice=cats`, [400], 0],
    [
      'a transfer coding on a folded line',
      `${HEAD}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n`,
      [400],
      0,
    ],
    ['a length on a folded line', `${HEAD}Content-Length:\r\n 11\r\n\r\nchoice=cats`, [400], 0],
    ['a length with a sign', `${HEAD}Content-Length: +11\r\n\r\nchoice=cats`, [400], 0],
    ['a negative length', `${HEAD}Content-Length: -1\r\n\r\nchoice=cats`, [400], 0],
    ['two lengths in one header', `${HEAD}Content-Length: 11, 11\r\n\r\nchoice=cats`, [400], 0],
    ['a length beyond 64 bits', `${HEAD}Content-Length: 99999999999999999999\r\n\r\nchoice=cats`, [400], 0],
    ['a chunk size with a 0x prefix', chunked('0xb\r\nchoice=cats\r\n0\r\n\r\n'), [400], 0],
    ['a chunk of negative size', chunked('-b\r\nchoice=cats\r\n0\r\n\r\n'), [400], 0],
    ['a chunk size beyond 64 bits', chunked('fffffffffffffffff\r\nchoice=cats\r\n0\r\n\r\n'), [400], 0],
    ['a chunk longer than its size', chunked('a\r\nchoice=cats\r\n0\r\n\r\n'), [400], 0],
    ['a chunk ending without CR', chunked('b\nchoice=cats\n0\n\n'), [400], 0],
    ['an endless chunk extension', chunked(`b;${'a'.repeat(20_000)}\r\nchoice=cats\r\n0\r\n\r\n`), [413], 0],
    ['HTTP/0.9', `GET /\r\n\r\n`, [400], 0],
    ['an HTTP/2 preface', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', [400], 0],
    ['a space in the path', `GET / /metrics HTTP/1.1\r\nHost: vote.test\r\n\r\n`, [400], 0],
    [
      'two hosts, of which the first counts',
      `GET / HTTP/1.1\r\nHost: vote.test\r\nHost: evil.test\r\n\r\n`,
      [200, 404],
      0,
    ],
  ])('%s is one request or none', async (_, bytes, statuses, votes) => {
    const before = await votesCaptured();
    const answers = await sendBytes(vote.port, `${bytes}${SENTINEL}`);
    expect(statusesOf(answers)).toEqual(statuses);
    expect(await votesCaptured()).toBe(before + votes);
    expect(answers).not.toMatch(INTERNALS);
  });

  test('neither upgrades nor tunnels are accepted', async () => {
    for (const bytes of [
      'CONNECT 127.0.0.1:6379 HTTP/1.1\r\nHost: 127.0.0.1:6379\r\n\r\n',
      `GET / HTTP/1.1\r\nHost: vote.test\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n`,
      `GET / HTTP/1.1\r\nHost: vote.test\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n`,
    ]) {
      const answers = await sendBytes(vote.port, bytes);
      expect(statusesOf(answers)).not.toContain(101);
      expect(statusesOf(answers).length).toBeLessThanOrEqual(1);
    }
  });

  test('the handler still captures votes', async () => {
    expect((await cast(vote, 'cats')).status).toBe(202);
  });
});
