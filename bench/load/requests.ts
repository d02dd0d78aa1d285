import type { RequestKind } from './order.ts';

const PATH = '/polls/cats-vs-dogs';
const JSON_VOTE = '{"choice":"cats"}';
const FORM_VOTE = 'choice=cats';
const CRLF = '\r\n';

/** What Chromium sends with a form, of what matters here. */
const BROWSER_HEADERS = [
  'Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8',
  'Accept-Encoding: gzip, deflate, br',
  'Accept-Language: en-US,en;q=0.9',
  'Sec-Fetch-Site: same-origin',
  'Sec-Fetch-Mode: navigate',
  'Upgrade-Insecure-Requests: 1',
  'User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36',
];

/** The text of a request; `token` is the voter's, of kind `returning`. */
export function requestText(kind: RequestKind, port: number, token: string | undefined): string {
  const host = `Host: 127.0.0.1:${port}`;
  switch (kind) {
    case 'page':
      return [`GET ${PATH} HTTP/1.1`, host, ...BROWSER_HEADERS, '', ''].join(CRLF);
    case 'form':
      return withBody(FORM_VOTE, [
        host,
        ...BROWSER_HEADERS,
        `Origin: http://127.0.0.1:${port}`,
        'Content-Type: application/x-www-form-urlencoded',
      ]);
    case 'first':
    case 'returning':
      return withBody(JSON_VOTE, [
        host,
        'Content-Type: application/json',
        ...(kind === 'returning' && token ? [`Cookie: turnout_voter=${token}`] : []),
      ]);
  }
}

function withBody(body: string, headers: readonly string[]): string {
  const head = [`POST ${PATH}/votes HTTP/1.1`, ...headers, `Content-Length: ${body.length}`, '', ''];
  return `${head.join(CRLF)}${body}`;
}
