import { describe, expect, test } from 'vitest';
import type { ControlOutcome } from '#db/control.ts';
import type { LiveReport } from '#handlers/dashboard/live-audit.ts';
import { ELSEWHERE, enrolled, NODE, node, OTHER_NODE, pollState, SOURCE } from '#kit/audit-fixtures.ts';
import { createApp, KNOWN, NOON } from './dashboard.ts';

const POLL = 'cats-vs-dogs';
const JSON_TYPE = { ...KNOWN, 'Content-Type': 'application/json' };
const FORM_TYPE = { ...KNOWN, 'Content-Type': 'application/x-www-form-urlencoded' };
const BY = { who: 'sre', why: 'the host talks' };

const ask = async (path: string, changes: Partial<LiveReport> = {}) => {
  const response = await createApp({ polls: [pollState()], ...changes }).request(path, { headers: KNOWN });
  return { status: response.status, text: await response.text(), headers: response.headers };
};

describe('the card of a poll', () => {
  test('shows state, times, revision, the last change and who has taken it', async () => {
    const nodes = [node({ polls: new Map([[POLL, 3]]), handlers: new Map([[SOURCE, new Map()]]) })];
    const polls = [
      pollState({ closesAt: NOON + 60_000, change: { at: NOON, who: 'ada', what: 'open', why: '<b>' } }),
    ];
    const { text } = await ask('/', { polls, nodes });
    expect(text).toContain('<span class="badge good">Open</span>');
    expect(text).toContain('revision 3, closes 2027-02-07 12:01:00 UTC');
    expect(text).toContain(`Taken by 1 of 1 nodes and 0 of 1 handlers; not yet by ${SOURCE}.`);
    expect(text).toContain('Last change 2027-02-07 12:00:00 UTC by ada: open (&lt;b&gt;).');
    expect(text).toContain(`href="/polls/${POLL}"`);
  });

  test('shows in words what a closed poll awaits', async () => {
    const awaited = new Map([
      [POLL, { nodes: [OTHER_NODE], unsealed: [SOURCE], uncounted: [ELSEWHERE], unexplained: [] }],
      ['b', { nodes: [], unsealed: [], uncounted: [], unexplained: [] }],
    ]);
    const polls = [pollState({ closedAt: NOON }), pollState({ id: 'b', closedAt: NOON })];
    const other = enrolled({ id: OTHER_NODE, name: 'frontend02' });
    const { text } = await ask('/', { polls, awaited, enrolled: [enrolled(), other] });
    expect(text).toContain(`frontend02 (${OTHER_NODE}) was not read since the poll closed.`);
    expect(text).toContain(`${SOURCE} has not sealed the poll.`);
    expect(text).toContain(`${ELSEWHERE} has uncounted jobs.`);
    expect(text).toContain('it becomes final within seconds');
    const ledger = await ask('/ledger', { awaited });
    expect(JSON.parse(ledger.text)).toMatchObject({
      polls: [{ poll: POLL, nodes: [OTHER_NODE] }, { poll: 'b' }],
    });
  });

  test('comes last for a hidden poll', async () => {
    const { text } = await ask('/polls', { polls: [pollState({ id: 'h', isHidden: true }), pollState()] });
    expect(JSON.parse(text).map(({ id }: { id: string }) => id)).toEqual([POLL, 'h']);
  });
});

test('the polls are served as JSON and as text that no cache may keep', async () => {
  const change = { at: NOON, who: 'ada', what: 'close', why: 'now' };
  const polls = [pollState({ opensAt: NOON - 1, closesAt: NOON + 1, closedAt: NOON, change })];
  const json = await ask('/polls', { polls });
  expect(JSON.parse(json.text)).toMatchObject([
    {
      ...{ id: POLL, phase: 'closing', nodes: { missing: [`frontend01 (${NODE})`] } },
      ...{ opensAt: '2027-02-07T11:59:59.999Z', closesAt: '2027-02-07T12:00:00.001Z' },
      ...{ closedAt: '2027-02-07T12:00:00.000Z', finalAt: null, forgottenAt: null },
      change: { ...change, at: '2027-02-07T12:00:00.000Z' },
    },
  ]);
  const text = await ask('/polls.txt');
  expect(text.text).toMatch(/^cats-vs-dogs {2}open, revision 3\n/);
  for (const { headers } of [json, text]) expect(headers.get('cache-control')).toBe('no-store');
  expect((await createApp().request('/polls.txt')).status).toBe(401);
});

test.each([
  [{}, ['close', 'extend', 'embargo']],
  [{ opensAt: NOON + 1 }, ['open', 'extend', 'embargo']],
  [{ closedAt: NOON, results: 'closed' as const }, ['open', 'extend', 'embargo']],
  [{ closedAt: NOON, finalAt: NOON }, ['forget']],
  [{ closedAt: NOON, finalAt: NOON, forgottenAt: NOON }, []],
])('the page of a poll with %j offers %j', async (state, actions) => {
  const { text, status } = await ask(`/polls/${POLL}`, { polls: [pollState(state)] });
  expect(status).toBe(200);
  expect([...text.matchAll(/action="\/polls\/cats-vs-dogs\/(\w+)"/g)].map(([, action]) => action)).toEqual(
    actions,
  );
  expect(text).not.toContain('http-equiv="refresh"');
  expect((await ask('/polls/nothing')).status).toBe(404);
});

describe('POST /polls/{poll}/{action}', () => {
  const post = (
    app: ReturnType<typeof createApp>,
    action: string,
    body: string,
    headers: Record<string, string> = JSON_TYPE,
  ) => app.request(`/polls/${POLL}/${action}`, { method: 'POST', body, headers });

  test.each([
    ['open', {}, []],
    ['close', {}, []],
    ['forget', {}, []],
    ['extend', { minutes: 5 }, [{ minutes: 5 }]],
    ['extend', { minutes: '5', closesAt: '' }, [{ minutes: 5 }]],
    ['extend', { closesAt: '2027-02-07T13:00:00+01:00' }, [{ closesAt: NOON }]],
    ['extend', { closesAt: '2027-02-07T12:00' }, [{ closesAt: NOON }]],
    ['embargo', { results: 'closed' }, ['closed']],
    ['embargo', { results: 'live' }, ['live']],
  ])('%s with %j is recorded with who and why', async (action, fields, args) => {
    const app = createApp();
    const response = await post(app, action, JSON.stringify({ reason: ' the host talks ', ...fields }));
    expect([response.status, await response.json()]).toEqual([202, { poll: POLL, action, status: 'done' }]);
    expect(app.pollChanges).toEqual([[action, POLL, ...args, BY]]);
    expect(app.expiries()).toBe(1);
  });

  test('leads a form back to the audit', async () => {
    const body = 'reason=the+host+talks&minutes=&closesAt=2027-02-07T12%3A00';
    const response = await post(createApp(), 'extend', body, { ...FORM_TYPE, Accept: 'text/html' });
    expect([response.status, response.headers.get('location')]).toEqual([303, '/']);
  });

  test.each(['open', 'close', 'extend', 'embargo', 'forget'])(
    '%s requires an operator, the own page and a reason',
    async (action) => {
      const app = createApp();
      const body = 'reason=now&minutes=5&results=live';
      expect((await post(app, action, body, { 'Content-Type': FORM_TYPE['Content-Type'] })).status).toBe(401);
      expect((await post(app, action, body, { ...FORM_TYPE, 'Sec-Fetch-Site': 'cross-site' })).status).toBe(
        403,
      );
      expect((await post(app, action, body, { ...FORM_TYPE, Origin: 'http://evil.example' })).status).toBe(
        403,
      );
      expect((await post(app, action, 'reason=+&minutes=5&results=live', FORM_TYPE)).status).toBe(400);
      expect((await post(app, action, `reason=${'x'.repeat(5_000)}`, FORM_TYPE)).status).toBe(413);
      expect(app.pollChanges).toEqual([]);
    },
  );

  test('answers 404 for what cannot be the id of a poll', async () => {
    const app = createApp();
    for (const id of ['%00', 'A', 'a%2Fb']) {
      const options = { method: 'POST', body: '{"reason":"now"}', headers: JSON_TYPE };
      expect((await app.request(`/polls/${id}/close`, options)).status, id).toBe(404);
    }
    expect(app.pollChanges).toEqual([]);
  });

  test.each([
    ['extend', {}, 'invalid_time'],
    ['extend', { minutes: 0 }, 'invalid_time'],
    ['extend', { minutes: 1.5 }, 'invalid_time'],
    ['extend', { minutes: 10_081 }, 'invalid_time'],
    ['extend', { minutes: 5, closesAt: '2027-02-07T12:00' }, 'invalid_time'],
    ['extend', { closesAt: 'tomorrow' }, 'invalid_time'],
    ['extend', { closesAt: '2027-02-31T25:00' }, 'invalid_time'],
    ['extend', { closesAt: ['2027'] }, 'invalid_time'],
    ['embargo', {}, 'invalid_results'],
    ['embargo', { results: 'secret' }, 'invalid_results'],
  ])('%s with %j is refused', async (action, fields, code) => {
    const app = createApp();
    const response = await post(app, action, JSON.stringify({ reason: 'now', ...fields }));
    expect([response.status, await response.json()]).toEqual([400, expect.objectContaining({ code })]);
    expect(app.pollChanges).toEqual([]);
  });

  test.each<[ControlOutcome, number, object]>([
    [{ outcome: 'unchanged', reason: 'it is open' }, 202, { status: 'unchanged', reason: 'it is open' }],
    [{ outcome: 'unknown', reason: 'no poll' }, 404, { code: 'unknown_poll', detail: 'no poll' }],
    [{ outcome: 'final', reason: 'it is final' }, 409, { code: 'poll_final', detail: 'it is final' }],
    [
      { outcome: 'invalid', reason: 'it has passed' },
      409,
      { code: 'invalid_change', detail: 'it has passed' },
    ],
  ])('answers %j with %i', async (outcome, status, body) => {
    const response = await post(
      createApp({}, undefined, undefined, undefined, outcome),
      'open',
      '{"reason":"now"}',
    );
    expect([response.status, await response.json()]).toEqual([status, expect.objectContaining(body)]);
  });
});
