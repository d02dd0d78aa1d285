import type { Hono } from 'hono';
import { describe, expect, test } from 'vitest';
import type { NodeState as EnrolledNode } from '#db/nodes.ts';
import type { LiveReport } from '#handlers/dashboard/live-audit.ts';
import { enrolled, NODE, node, OTHER_NODE } from '#kit/audit-fixtures.ts';
import { createApp, KNOWN, NOON } from './dashboard.ts';

describe('the nodes', () => {
  const pageOf = async (app: Hono | ReturnType<typeof createApp>, path = '/'): Promise<string> =>
    (await app.request(path, { headers: KNOWN })).text();
  const pageWith = (other: Partial<EnrolledNode>, changes: Partial<LiveReport> = {}) =>
    pageOf(
      createApp({
        enrolled: [enrolled(), enrolled({ id: OTHER_NODE, name: 'frontend02', ...other })],
        ...changes,
      }),
    );

  test('show every node ever enrolled: id, state, last read, clock skew and uncounted votes', async () => {
    const text = await pageWith({ clockSkewMs: -2_500, uncountedVotes: 1_234, readAt: NOON - 60_000 });
    expect(text).toContain(`frontend02<small>${OTHER_NODE}</small>`);
    expect(text).toContain('<time datetime="2027-02-07T11:59:00.000Z">2027-02-07 11:59:00 UTC</time>');
    expect(text).toContain('<td class="number alarm">-2,500 ms</td>');
    expect(text).toContain('<td class="number alarm">1,234</td>');
    expect(text).toContain('not reachable now; results wait for it');
    expect(text).toContain(
      `frontend01<small>${NODE}</small></th><td><span class="badge good">Enrolled</span></td>`,
    );
  });

  test('show a node that was never read, and one without a row in Postgres', async () => {
    expect(await pageWith({ readAt: null, clockSkewMs: null })).toContain('<span class="alarm">never</span>');
    const text = await pageOf(createApp({ enrolled: [] }));
    expect(text).toContain(`frontend01<small>${NODE}</small>`);
    expect(text).not.toContain(`href="/nodes/${NODE}"`);
  });

  test('show retired and written-off nodes, with the reason', async () => {
    const retired = await pageWith({ state: 'retired' });
    expect(retired).toContain('Retired</span>');
    expect(retired).not.toContain(`href="/nodes/${OTHER_NODE}"`);
    const gone = await pageWith({ state: 'written off', writtenOffReason: 'its disk <died>' });
    expect(gone).toContain('Written off</span> <small>its disk &lt;died&gt;</small>');
  });

  test('have a page each, which offers a write-off only while the node is unreachable', async () => {
    const up = await pageOf(createApp(), `/nodes/${NODE}`);
    expect(up).toContain(`action="/nodes/${NODE}/retire"`);
    expect(up).toContain('name="reason" required');
    expect(up).not.toContain(`action="/nodes/${NODE}/write-off"`);
    const nodes = [node({ fault: 'connection lost' })];
    const down = await pageOf(createApp({ nodes }), `/nodes/${NODE}`);
    expect(down).toContain(`action="/nodes/${NODE}/write-off"`);
    const retired = await pageOf(createApp({ enrolled: [enrolled({ state: 'retired' })] }), `/nodes/${NODE}`);
    expect(retired).not.toContain('<form');
    expect((await createApp().request('/nodes/nowhere', { headers: KNOWN })).status).toBe(404);
    expect((await createApp().request(`/nodes/${NODE}`)).status).toBe(401);
  });
});

describe.each([
  ['retire', 'retire', 'retiring'],
  ['write-off', 'write off', 'written off'],
] as const)('POST /nodes/{node}/%s', (action, what, status) => {
  const down = { nodes: [node({ fault: 'connection lost' })] };
  const post = (
    app: ReturnType<typeof createApp>,
    body: string,
    headers: Record<string, string> = { ...KNOWN, 'Content-Type': 'application/json' },
  ) => app.request(`/nodes/frontend01/${action}`, { method: 'POST', body, headers });
  const FORM = { ...KNOWN, 'Content-Type': 'application/x-www-form-urlencoded' };

  test('records who asked, and why, in JSON or in a form', async () => {
    const app = createApp(down);
    const response = await post(app, '{"reason":" moved away "}');
    expect([response.status, await response.json()]).toEqual([202, { node: 'frontend01', status }]);
    const page = await post(app, 'reason=moved+away', { ...FORM, Accept: 'text/html' });
    expect([page.status, page.headers.get('location')]).toEqual([303, '/']);
    const change = { what, node: 'frontend01', who: 'sre', why: 'moved away' };
    expect(app.made).toEqual([change, change]);
    expect(app.expiries()).toBe(2);
  });

  test('requires an operator and the dashboard’s own page', async () => {
    const app = createApp(down);
    const body = 'reason=moved';
    expect((await post(app, body, { 'Content-Type': FORM['Content-Type'] })).status).toBe(401);
    expect((await post(app, body, { ...FORM, 'Sec-Fetch-Site': 'cross-site' })).status).toBe(403);
    expect((await post(app, body, { ...FORM, Origin: 'http://evil.example' })).status).toBe(403);
    expect((await app.request(`/nodes/frontend01/${action}`, { headers: KNOWN })).status).toBe(404);
    expect(app.made).toEqual([]);
  });

  test.each([
    ['', 400],
    ['{}', 400],
    ['null', 400],
    ['not JSON', 400],
    ['{"reason":"  "}', 400],
    ['{"reason":7}', 400],
    ['{"reason":"a\\u0000b"}', 400],
    [JSON.stringify({ reason: 'x'.repeat(501) }), 400],
    [JSON.stringify({ reason: 'x'.repeat(5_000) }), 413],
  ])('refuses %j with %i', async (body, expected) => {
    const app = createApp(down);
    expect((await post(app, body)).status).toBe(expected);
    expect(app.made).toEqual([]);
  });

  test.each([
    ['unknown', 404, 'unknown_node'],
    ['ambiguous', 409, 'ambiguous_node'],
  ] as const)('answers %s with %i', async (outcome, expected, code) => {
    const response = await post(createApp(down, outcome), '{"reason":"moved"}');
    expect(response.status).toBe(expected);
    expect(await response.json()).toMatchObject({ code });
  });
});

test.each([NODE, 'frontend01'])('a write-off of %s is refused while the node is reachable', async (name) => {
  const headers = { ...KNOWN, 'Content-Type': 'application/json' };
  const app = createApp();
  const options = { method: 'POST', body: '{"reason":"it is slow"}', headers };
  const response = await app.request(`/nodes/${name}/write-off`, options);
  expect(response.status).toBe(409);
  expect(await response.json()).toMatchObject({ code: 'still_reachable' });
  expect(app.made).toEqual([]);
  expect((await app.request(`/nodes/${name}/retire`, options)).status).toBe(202);
});
