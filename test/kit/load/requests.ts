import type { Ballot, RequestKind, Target } from './spec.ts';

const BALLOT: Ballot = { poll: 'cats-vs-dogs', choice: 'cats' };
const CRLF = '\r\n';

/** The headers of Chromium's form submission that a handler may read. */
const BROWSER_HEADERS = [
  'Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8',
  'Accept-Encoding: gzip, deflate, br',
  'Accept-Language: en-US,en;q=0.9',
  'Sec-Fetch-Site: same-origin',
  'Sec-Fetch-Mode: navigate',
  'Upgrade-Insecure-Requests: 1',
  'User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36',
];

/** Returns the bytes of a request as Latin-1 text; `token` is sent by kind `returning` only. */
export function requestText(kind: RequestKind, target: Target, token?: string): string {
  const host = target.hostHeader ?? `${target.host ?? '127.0.0.1'}:${target.port}`;
  const { poll, choice } = target.ballot ?? BALLOT;
  const path = `/polls/${poll}`;
  const json = `{"choice":"${choice}"}`;
  switch (kind) {
    case 'page':
      return [`GET ${path} HTTP/1.1`, `Host: ${host}`, ...BROWSER_HEADERS, '', ''].join(CRLF);
    case 'form':
      return postText(path, host, `choice=${choice}`, [
        ...BROWSER_HEADERS,
        `Origin: ${target.isTls ? 'https' : 'http'}://${host}`,
        'Content-Type: application/x-www-form-urlencoded',
      ]);
    case 'first':
      return postText(path, host, json, ['Content-Type: application/json']);
    case 'returning':
      return postText(path, host, json, [
        'Content-Type: application/json',
        ...(token ? [`Cookie: turnout_voter=${token}`] : []),
      ]);
  }
}

function postText(path: string, host: string, body: string, headers: readonly string[]): string {
  const length = `Content-Length: ${body.length}`;
  const head = [`POST ${path}/votes HTTP/1.1`, `Host: ${host}`, ...headers, length, '', ''];
  return `${head.join(CRLF)}${body}`;
}
