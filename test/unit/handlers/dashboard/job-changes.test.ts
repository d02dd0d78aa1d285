import { describe, expect, test } from 'vitest';
import { reconcile } from '#audit/reconcile.ts';
import { JOBS_PER_WRITE_OFF_MAX } from '#db/write-off.ts';
import { jobKey } from '#job';
import { audit, NODE, node, OLDER, range, SOURCE } from '#kit/audit-fixtures.ts';
import { createApp, KNOWN } from './dashboard.ts';

const FORM = { ...KNOWN, 'Content-Type': 'application/x-www-form-urlencoded' };
const [WAITING, FAILED, LOST] = [3, 4, 5].map((seq) => jobKey(SOURCE, seq));

/** A node with a waiting, a failed and a lost job. */
function faulty() {
  const nodes = [node({ seqs: { [SOURCE]: 5 }, queued: [3], failed: [4] })];
  const rows = reconcile({ nodes, audits: [audit(2, [3, 4, 5])], knownBefore: new Set() });
  return { nodes, rows };
}

const post = (app: ReturnType<typeof createApp>, fields: object, headers: Record<string, string> = KNOWN) =>
  app.request('/jobs/write-off', {
    method: 'POST',
    body: JSON.stringify(fields),
    headers: { 'Content-Type': 'application/json', ...headers },
  });

describe('POST /jobs/write-off', () => {
  test('records who asked, and why, in JSON or in a form', async () => {
    const app = createApp(faulty());
    const response = await post(app, { jobs: `${FAILED} ${LOST} ${LOST}`, reason: ' damaged ' });
    expect([response.status, await response.json()]).toEqual([
      202,
      { jobs: [FAILED, LOST], status: 'written off' },
    ]);
    const body = new URLSearchParams({ jobs: `${FAILED}\r\n${LOST}\r\n`, reason: 'damaged' });
    const headers = { ...FORM, Accept: 'text/html' };
    const page = await app.request('/jobs/write-off', { method: 'POST', body, headers });
    expect([page.status, page.headers.get('location')]).toEqual([303, '/']);
    const change = { what: 'write off jobs', node: `${FAILED} ${LOST}`, who: 'sre', why: 'damaged' };
    expect(app.made).toEqual([change, change]);
    expect(app.expiries()).toBe(2);
  });

  test('requires an operator and the dashboard’s own page', async () => {
    const app = createApp(faulty());
    const fields = { jobs: LOST, reason: 'damaged' };
    expect((await post(app, fields, { Authorization: '' })).status).toBe(401);
    expect((await post(app, fields, { ...KNOWN, 'Sec-Fetch-Site': 'cross-site' })).status).toBe(403);
    expect(app.made).toEqual([]);
  });

  test.each([
    [{ jobs: LOST }, 400, 'missing_reason'],
    [{ reason: 'x' }, 400, 'invalid_jobs'],
    [{ jobs: '  ', reason: 'x' }, 400, 'invalid_jobs'],
    [{ jobs: [LOST], reason: 'x' }, 400, 'invalid_jobs'],
    [{ jobs: `${LOST} nonsense`, reason: 'x' }, 400, 'invalid_jobs'],
    [
      {
        jobs: range(1, JOBS_PER_WRITE_OFF_MAX + 1)
          .map((seq) => jobKey(SOURCE, seq))
          .join(' '),
        reason: 'x',
      },
      400,
      'invalid_jobs',
    ],
    [{ jobs: 'x'.repeat(40_000), reason: 'x' }, 413, 'too_large'],
    [{ jobs: `${LOST} ${WAITING}`, reason: 'x' }, 409, 'not_at_fault'],
    [{ jobs: jobKey(SOURCE, 1), reason: 'x' }, 409, 'not_at_fault'],
  ])('refuses %j with %i %s', async (fields, status, code) => {
    const app = createApp(faulty());
    const response = await post(app, fields);
    expect([response.status, await response.json()]).toEqual([status, expect.objectContaining({ code })]);
    expect(app.made).toEqual([]);
  });

  test('refuses jobs of a node that cannot be read: they may be on it', async () => {
    const nodes = [node({ seqs: { [SOURCE]: 5 }, fault: 'not connected' })];
    const rows = reconcile({ nodes, audits: [audit(2, [3, 4, 5])], knownBefore: new Set() });
    expect((await post(createApp({ nodes, rows }), { jobs: LOST, reason: 'x' })).status).toBe(409);
  });

  test.each([
    ['unknown', 404, 'unknown_job'],
    ['counted', 409, 'job_counted'],
  ] as const)('answers %s with %i, and names the jobs', async (outcome, status, code) => {
    const app = createApp(faulty(), 'done', { outcome, jobs: [LOST ?? ''] });
    const response = await post(app, { jobs: `${FAILED} ${LOST}`, reason: 'x' });
    expect([response.status, await response.json()]).toEqual([
      status,
      expect.objectContaining({ code, detail: expect.stringContaining(LOST ?? '') as string }),
    ]);
    expect(app.expiries()).toBe(0);
  });
});

describe('the page of a node', () => {
  const pageOf = async (app: ReturnType<typeof createApp>) =>
    (await app.request(`/nodes/${NODE}`, { headers: KNOWN })).text();

  test('offers its failed and lost jobs to be written off', async () => {
    const text = await pageOf(createApp(faulty()));
    expect(text).toContain('action="/jobs/write-off"');
    expect(text).toMatch(new RegExp(`<textarea [^>]*>\n${FAILED}\n${LOST}</textarea>`));
    expect(await pageOf(createApp())).not.toContain('action="/jobs/write-off"');
  });

  test('offers no more jobs than one request may have', async () => {
    const rows = [SOURCE, OLDER].flatMap((source) => {
      const nodes = [node({ seqs: { [source]: 90 } })];
      return reconcile({ nodes, audits: [audit(0, range(1, 90), source)], knownBefore: new Set() });
    });
    const text = await pageOf(createApp({ rows }));
    expect(text).toContain(`${SOURCE}.90\n${OLDER}.1\n`);
    expect(text).toContain(`\n${OLDER}.10</textarea>`);
  });
});
