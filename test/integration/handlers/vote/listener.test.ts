import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createVoteApp } from '#handlers/vote/app.ts';
import { NotCapturedError } from '#handlers/vote/capture.ts';
import { createVoteListener } from '#handlers/vote/listener.ts';
import { createVoterTokens } from '#handlers/vote/voter.ts';
import type { VotingParts } from '#handlers/vote/voting.ts';
import { recordLog } from '#kit/log.ts';
import { sendBytes } from '#kit/raw-http.ts';
import { Secret } from '#runtime/secret.ts';
import { type Listening, listen } from '#runtime/server.ts';

const CAST_AT = 1_763_812_345_678_901;
const tokens = createVoterTokens(new Secret('k'.repeat(32)));
const KNOWN = tokens.sign({ id: '019e0000-0000-7000-8000-000000000001', lastCastAt: 5 });
const JSON_TYPE = 'content-type: application/json';
const FORM_TYPE = 'content-type: application/x-www-form-urlencoded';

const choices = ['cats', 'dogs'].map((id) => ({ id, label: id }));
const polls = [
  { id: 'open', question: 'Cats or dogs?', choices },
  { id: 'closed', question: 'Too late?', choices, closesAt: 1 },
  { id: 'later', question: 'Too early?', choices, opensAt: 4_000_000_000_000 },
];

/** One request: its path, its headers but for the length, and its body. */
type Sent = [path: string, headers: readonly string[], body: string, method?: string];

const VOTES: readonly Sent[] = [
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
];

describe.each(['open', 'issued'] as const)('with admission %s', (admission) => {
  describe.each(['taken', 'refused', 'broken'] as const)('and a capture that is %s', (fate) => {
    let past: Listening;
    let through: Listening;
    beforeAll(async () => {
      const parts: VotingParts = {
        polls,
        capture: {
          capture: async () => {
            if (fate === 'refused') throw new NotCapturedError('full');
            if (fate === 'broken') throw new Error('broken');
            return 'frontend01.t0-1.1';
          },
        },
        tokens,
        clock: () => CAST_AT,
        admission,
        log: recordLog().log,
        now: () => CAST_AT / 1_000,
      };
      past = await listen(createVoteApp(parts), 0, {
        hostname: '127.0.0.1',
        first: createVoteListener(parts),
      });
      through = await listen(createVoteApp(parts), 0, { hostname: '127.0.0.1' });
    });
    afterAll(async () => {
      await Promise.all([past.close(), through.close()]);
    });

    test.each(VOTES)(
      'Node’s listener answers %s %j %s as the app does',
      async (path, headers, body, method) => {
        const lines = ['host: vote.test', 'connection: close', ...headers, `content-length: ${body.length}`];
        const bytes = [`${method ?? 'POST'} ${path} HTTP/1.1`, ...lines, '', body].join('\r\n');
        const [one, other] = await Promise.all([past, through].map(({ port }) => sendBytes(port, bytes)));
        expect(plain(one)).toEqual(plain(other));
        expect(one).toMatch(/^HTTP\/1\.1 \d{3} /);
      },
    );
  });
});

/** An answer without what differs between any two: its time, who a new voter is, when to come again. */
function plain(answer = ''): { status: string; headers: string[]; body: string } {
  const [head = '', body = ''] = answer.split('\r\n\r\n', 2);
  const [status = '', ...headers] = head.split('\r\n').map((line) => {
    const [name = '', ...value] = line.split(':');
    const text = value.length === 0 ? line : `${name.toLowerCase()}:${value.join(':')}`;
    return text
      .replace(/^date:.*/, 'date:')
      .replace(/^retry-after: \d+$/, 'retry-after: some')
      .replace(/turnout_voter=[\w-]{76}/, 'turnout_voter=token');
  });
  return { status, headers: headers.toSorted(), body };
}
