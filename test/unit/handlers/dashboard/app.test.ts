import { describe, expect, test } from 'vitest';
import { reconcile } from '#audit/reconcile.ts';
import { FAILURES_MAX } from '#handlers/dashboard/auth.ts';
import type { LiveReport } from '#handlers/dashboard/live-audit.ts';
import { audit, ELSEWHERE, NODE, node, SOURCE } from '#kit/audit-fixtures.ts';
import { basic, createApp, KNOWN, VIEWER } from './dashboard.ts';

describe('the dashboard', () => {
  test.each(['/', '/ledger', '/anomalies', '/queues', '/queues/static/js/main.js', '/nothing'])(
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

  test('refuses an address after ten wrong passwords, also with the right one, and no other address', async () => {
    const app = createApp();
    const ask = (address: string, authorization: string) =>
      app.request('/', { headers: { 'X-Forwarded-For': address, Authorization: authorization } });
    for (let attempt = 0; attempt < FAILURES_MAX; attempt += 1)
      expect((await ask('192.0.2.1', basic('sre:wrong'))).status).toBe(401);
    const refused = await ask('192.0.2.1', KNOWN.Authorization);
    expect(refused.status).toBe(429);
    expect(refused.headers.get('retry-after')).toBe('60');
    expect((await ask('192.0.2.2', KNOWN.Authorization)).status).toBe(200);
  });

  test('does not count requests without a password as wrong ones', async () => {
    const app = createApp();
    for (let attempt = 0; attempt <= FAILURES_MAX; attempt += 1)
      expect((await app.request('/')).status).toBe(401);
  });

  test.each([
    ['/nodes/NODE/retire', 'reason=it+moves'],
    ['/jobs/write-off', 'jobs=a&reason=it+moves'],
    ['/polls/cats-vs-dogs/close', 'reason=it+moves'],
    ['/queues/api/queues/pause', ''],
  ])('refuses POST %s of a viewer', async (path, body) => {
    const app = createApp();
    const response = await app.request(path.replace('NODE', NODE), {
      method: 'POST',
      headers: { ...VIEWER, 'Content-Type': 'application/x-www-form-urlencoded' },
      body,
    });
    expect(response.status).toBe(403);
    expect(await response.json()).toMatchObject({ code: 'viewer' });
    expect(app.made).toEqual([]);
    expect(app.pollChanges).toEqual([]);
  });

  test('shows everything to a viewer, without forms', async () => {
    const app = createApp();
    expect((await app.request('/', { headers: VIEWER })).status).toBe(200);
    const path = `/nodes/${NODE}`;
    const pageFor = async (headers: Record<string, string>) => (await app.request(path, { headers })).text();
    expect(await pageFor(KNOWN)).toContain('<form');
    expect(await pageFor(VIEWER)).not.toContain('<form');
    expect(await pageFor(VIEWER)).toContain('An operator can change this node.');
  });

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
      writtenOff: 0,
      lost: 0,
    };
    expect(await response.json()).toEqual({
      asOf: '2027-02-07T12:00:00.000Z',
      reconciledAt: '2027-02-07T12:00:00.000Z',
      postgres: { reachable: true, reason: null },
      total: outcomes,
      nodes: [
        {
          node: NODE,
          name: 'frontend01',
          state: 'enrolled',
          reachable: true,
          enrolledAt: '2027-02-07T11:00:00.000Z',
          readAt: '2027-02-07T12:00:00.000Z',
          clockSkewMs: 0,
          uncountedJobs: 0,
          uncountedVotes: 0,
          ...outcomes,
          writtenOffReason: null,
        },
      ],
      polls: [],
      foreign: [],
      sources: [
        {
          source: SOURCE,
          node: NODE,
          name: 'frontend01',
          reachable: true,
          retired: false,
          ...outcomes,
          unexplained: 0,
          jobs: { accepted: 3, committed: 2, pending: 1, failed: 0, writtenOff: 0, lost: 0, discarded: 0 },
          lostJobs: [],
          failedJobs: [],
          writtenOffJobs: [],
        },
      ],
      queues: [
        {
          node: NODE,
          name: 'frontend01',
          address: 'r1',
          reachable: true,
          reason: null,
          oldestMs: null,
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

  test('lists sources whose ledger and receipts differ in votes', async () => {
    const rowsWith = (votes: number) =>
      reconcile({
        nodes: [node({ seqs: { [SOURCE]: 3 } })],
        audits: [{ ...audit(3), votes, counted: votes }],
        knownBefore: new Set(),
      });
    const fewer = await pageWith({ rows: rowsWith(22) });
    expect(fewer).toContain('8 accepted votes are lost');
    expect(fewer).toContain('Unexplained votes</h2>');
    const more = await pageWith({ rows: rowsWith(33) });
    expect(more).toContain('Receipts and ledgers differ in votes.');
    expect(more).toContain('<td class="number alarm">3</td>');
    expect(await pageWith()).not.toContain('Unexplained votes');
  });

  test('alarms about sources on nodes that are not theirs', async () => {
    const foreign = [{ source: ELSEWHERE, address: '10.0.0.1:6379', isInLedger: true, jobs: 2 }];
    const text = await pageWith({ foreign });
    expect(text).toContain('may be compromised');
    expect(text).toContain(ELSEWHERE);
    expect(await pageWith()).not.toContain('may be compromised');
  });

  test('shows what is written off, and does not call it lost', async () => {
    const nodes = [node({ seqs: { [SOURCE]: 1 } })];
    const audits = [audit(1), { ...audit(2, [3], ELSEWHERE), isWrittenOff: true }];
    const text = await pageWith({ nodes, rows: reconcile({ nodes, audits, knownBefore: new Set() }) });
    expect(text).toContain('Every accepted vote is accounted for, except those written off.');
    expect(text).toContain('<dt>Written off</dt><dd>10</dd>');
    expect(text).toContain('<div class="figure good"><dt>Lost</dt><dd>0</dd>');
  });

  test('names the jobs that were written off, with the reason', async () => {
    const audits = [{ ...audit(3), writtenOffJobs: [{ seq: 2, reason: 'damaged <data>' }] }];
    const rows = reconcile({ nodes: [node({ seqs: { [SOURCE]: 3 } })], audits, knownBefore: new Set() });
    expect(await pageWith({ rows })).toContain(`<code>${SOURCE}.2</code> damaged &lt;data&gt;</li>`);
    expect(await pageWith()).not.toContain('Jobs written off');
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
