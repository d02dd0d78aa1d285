import { Hono } from 'hono';
import { describe, expect, test } from 'vitest';
import { reconcile } from '#audit/reconcile.ts';
import type { Retirement } from '#db/nodes.ts';
import { createDashboardApp } from '#handlers/dashboard/app.ts';
import type { LiveReport } from '#handlers/dashboard/live-audit.ts';
import type { AuditView } from '#handlers/dashboard/view.ts';
import { audit, node, SOURCE } from '#kit/audit-fixtures.ts';
import { recordLog } from '#kit/log.ts';
import { Secret } from '#runtime/secret.ts';

const USERS = new Map([['sre', new Secret('pass:wörd1')]]);
const NOON = Date.UTC(2027, 1, 7, 12);

const basic = (text: string): string => `Basic ${Buffer.from(text).toString('base64')}`;
const KNOWN = { Authorization: basic('sre:pass:wörd1') };

function createApp(
  changes: Partial<LiveReport> = {},
  retire: (node: string) => Promise<Retirement> = async () => ({ status: 'unknown' }),
) {
  const nodes = [node({ seqs: { [SOURCE]: 3 }, queued: [3] })];
  const rows = reconcile({ nodes, audits: [audit(2)], knownBefore: new Set() });
  const report: LiveReport = {
    asOf: NOON,
    reconciledAt: NOON,
    nodes,
    rows,
    postgresFault: undefined,
    ...changes,
  };
  const board = new Hono().all('*', (c) => c.text('the board'));
  return createDashboardApp({
    users: USERS,
    audit: { latest: async () => report, expire: () => {} },
    board,
    retire,
    log: recordLog().log,
  });
}

describe('the dashboard', () => {
  test.each(['/', '/ledger', '/queues', '/queues/static/js/main.js', '/nothing'])(
    'requires a password for %s',
    async (path) => {
      const app = createApp();
      for (const authorization of [
        undefined,
        'Basic',
        'Basic !!!',
        'Bearer pass:wörd1',
        basic(''),
        basic('sre'),
        basic('sre:'),
        basic('sre:wrong'),
        basic('root:pass:wörd1'),
        basic('__proto__:x'),
      ]) {
        const response = await app.request(path, { headers: authorization ? { authorization } : {} });
        expect(response.status, authorization).toBe(401);
        expect(response.headers.get('www-authenticate')).toBe(
          'Basic realm="Turnout dashboard", charset="UTF-8"',
        );
        expect(await response.json()).toMatchObject({ code: 'unauthorized' });
      }
    },
  );

  test('accepts a known user', async () => {
    const app = createApp();
    expect((await app.request('/', { headers: KNOWN })).status).toBe(200);
    expect(await (await app.request('/queues', { headers: KNOWN })).text()).toBe('the board');
    expect((await app.request('/nothing', { headers: KNOWN })).status).toBe(404);
  });

  test.each([
    [{ 'Sec-Fetch-Site': 'cross-site' }, 403],
    [{ 'Sec-Fetch-Site': 'same-site', Origin: 'http://board.example' }, 403],
    [{ Origin: 'http://evil.example' }, 403],
    [{ Origin: 'null' }, 403],
    [{ 'Sec-Fetch-Site': 'same-origin' }, 200],
    [{ Origin: 'http://board.example' }, 200],
    [{}, 200],
  ])('answers a POST with headers %j with %i', async (headers, status) => {
    const response = await createApp().request('/queues/api/queues/pause', {
      method: 'PUT',
      headers: { ...KNOWN, Host: 'board.example', ...headers },
    });
    expect(response.status).toBe(status);
  });

  test('accepts links from other sites', async () => {
    const headers = { ...KNOWN, 'Sec-Fetch-Site': 'cross-site' };
    expect((await createApp().request('/', { headers })).status).toBe(200);
  });

  test('serves the audit as JSON that no cache may keep', async () => {
    const response = await createApp().request('/ledger', { headers: KNOWN });
    expect(response.headers.get('cache-control')).toBe('no-store');
    const outcomes = {
      accepted: 30,
      counted: 20,
      changed: 0,
      superseded: 0,
      rejected: 0,
      pending: 10,
      failed: 0,
      lost: 0,
    };
    expect(await response.json()).toEqual({
      asOf: '2027-02-07T12:00:00.000Z',
      reconciledAt: '2027-02-07T12:00:00.000Z',
      postgres: { reachable: true, reason: null },
      total: outcomes,
      nodes: [{ node: 'frontend01', reachable: true, retired: false, ...outcomes }],
      sources: [
        {
          source: SOURCE,
          node: 'frontend01',
          reachable: true,
          retired: false,
          ...outcomes,
          jobs: { accepted: 3, committed: 2, pending: 1, failed: 0, lost: 0 },
          lostJobs: [],
        },
      ],
      queues: [
        {
          nodes: ['frontend01'],
          address: 'r1',
          reachable: true,
          reason: null,
          waiting: 1,
          active: 0,
          delayed: 0,
          failed: 0,
          memory: { used: 2 ** 20, max: 2 ** 30 },
          appendOnlyFile: 'on',
        },
      ],
    });
  });
});

describe('the page', () => {
  const pageWith = async (changes: Partial<LiveReport> = {}): Promise<string> => {
    const response = await createApp(changes).request('/', { headers: KNOWN });
    expect(response.headers.get('cache-control')).toBe('no-store');
    return response.text();
  };
  const rowsOf = (queued: readonly number[], failed: readonly number[] = []) =>
    reconcile({
      nodes: [node({ seqs: { [SOURCE]: 3 }, queued, failed })],
      audits: [audit(2)],
      knownBefore: new Set(),
    });

  test.each([
    ['every vote is accounted for', { rows: [] }, 'Every accepted vote is accounted for.'],
    ['votes are pending', {}, 'some are waiting to be committed'],
    ['jobs have failed', { rows: rowsOf([], [3]) }, 'Some jobs have failed'],
    ['votes are lost', { rows: rowsOf([]) }, '10 accepted votes are lost'],
    ['Postgres is down', { postgresFault: 'no connection' }, 'Postgres is unavailable (no connection)'],
    [
      'Postgres was never available',
      { postgresFault: 'x', reconciledAt: undefined, rows: [] },
      'No audit has completed yet.',
    ],
  ])('states that %s', async (_case, changes, words) => {
    expect(await pageWith(changes)).toContain(words);
  });

  test('lists the first lost jobs and the number of others', async () => {
    const named = await pageWith({ rows: rowsOf([]) });
    expect(named).toContain(`<code>${SOURCE}.3</code>`);
    expect(named).not.toContain('more</li>');
    const rows = reconcile({
      nodes: [node({ seqs: { [SOURCE]: 1_030 } })],
      audits: [audit(5)],
      knownBefore: new Set(),
    });
    const many = await pageWith({ rows });
    expect(many).toContain(`<code>${SOURCE}.25</code>`);
    expect(many).not.toContain(`${SOURCE}.26<`);
    expect(many).toContain('and 1,005 more</li>');
    expect(await pageWith()).not.toContain('Lost jobs</h2>');
  });

  test('shows why a node is down, and an append-only file that is off', async () => {
    const text = await pageWith({
      nodes: [
        node({ name: 'r1', fault: 'took over <1> s' }),
        { ...node({ name: 'r2' }), appendOnlyFile: 'off' },
      ],
    });
    expect(text).toContain('took over &lt;1&gt; s');
    expect(text).toContain('off: votes are not on disk');
  });
});

describe('retiring a node', () => {
  const down = { nodes: [node({ fault: 'connection lost' })] };
  const ask = (app: Hono, headers: Record<string, string> = KNOWN, name = 'frontend01') =>
    app.request(`/nodes/${name}/retire`, { method: 'POST', headers });

  test('requires an operator and the dashboard’s own page', async () => {
    const asked: string[] = [];
    const app = createApp(down, async (name) => {
      asked.push(name);
      return { status: 'retired' };
    });
    expect((await ask(app, {})).status).toBe(401);
    expect((await ask(app, { ...KNOWN, 'Sec-Fetch-Site': 'cross-site' })).status).toBe(403);
    expect((await app.request('/nodes/frontend01/retire', { headers: KNOWN })).status).toBe(404);
    expect(asked).toEqual([]);
    const response = await ask(app);
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ node: 'frontend01', status: 'retired' });
    const page = await ask(app, { ...KNOWN, accept: 'text/html' });
    expect([page.status, page.headers.get('location')]).toEqual([303, '/']);
    expect(asked).toEqual(['frontend01', 'frontend01']);
  });

  test.each([
    ['unknown_node', 404, { status: 'unknown' }],
    ['votes_uncounted', 409, { status: 'incomplete', jobs: 3 }],
  ] as const)('answers %s', async (code, status, retirement) => {
    const response = await ask(createApp(down, async () => retirement));
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ code });
  });

  test('is refused while the node is reachable, without a query', async () => {
    const response = await ask(createApp({}, () => Promise.reject(new Error('asked'))));
    expect(response.status).toBe(409);
    expect(await response.json()).toMatchObject({ code: 'still_reachable' });
  });

  test('is offered for an unreachable node without missing jobs, and shown when done', async () => {
    const gone = (retired: boolean, missing: number[]) => {
      const nodes = [node({ fault: 'connection lost' })];
      const audits = [{ ...audit(2, missing), retired }];
      return createApp({ nodes, rows: reconcile({ nodes, audits, knownBefore: new Set() }) });
    };
    const page = async (app: Hono) => (await app.request('/', { headers: KNOWN })).text();
    const form = 'action="/nodes/frontend01/retire"';
    expect(await page(gone(false, []))).toContain(form);
    expect(await page(gone(false, [3]))).not.toContain(form);
    expect(await page(gone(true, []))).not.toContain(form);
    expect(await page(gone(true, []))).toContain('retired');
    expect(await page(createApp())).not.toContain(form);
    const json = (await (await gone(true, []).request('/ledger', { headers: KNOWN })).json()) as AuditView;
    expect(json.nodes).toMatchObject([{ node: 'frontend01', retired: true }]);
  });
});
