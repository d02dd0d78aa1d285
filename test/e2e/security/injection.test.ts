import { describe, expect, test } from 'vitest';
import { ask } from '#kit/raw-http.ts';
import { until } from '#kit/until.ts';
import {
  ANN,
  cast,
  dashboard,
  database,
  FORM_TYPE,
  HOSTILE,
  INTERNALS,
  JSON_TYPE,
  MARKUP,
  other,
  POLL,
  POLLS,
  results,
  secondVote,
  untilAllCounted,
  VOTES,
  vote,
  votesCaptured,
} from './fixture.ts';

describe('SQL and HTML', () => {
  const strings = [...HOSTILE, "cats' or '1'='1", 'cats; truncate votes', '../../etc/passwd', '%00', '\\'];

  test('in choice, cookie, path or query have no effect and are not echoed', async () => {
    const before = await votesCaptured();
    for (const text of strings) {
      const escaped = encodeURIComponent(text);
      const answers = [
        await ask(vote.url, VOTES, 'POST', JSON_TYPE, JSON.stringify({ choice: text })),
        await ask(vote.url, VOTES, 'POST', { ...FORM_TYPE, accept: 'text/html' }, `choice=${escaped}`),
        await ask(vote.url, `/polls/${escaped}`, 'GET', { accept: 'text/html' }),
        await ask(vote.url, `/polls/${escaped}/votes`, 'POST', JSON_TYPE, '{"choice":"cats"}'),
        await ask(vote.url, `/?poll=${escaped}&${escaped}`, 'GET', {
          accept: 'text/html',
          cookie: `turnout_choice_${POLL}=${escaped}; turnout_choice=${escaped}`,
        }),
        await ask(results.url, `/polls/${escaped}/results`),
        await ask(results.url, `/polls/${escaped}/results.csv?${escaped}`),
        await ask(results.url, `/receipts/${escaped}`),
        await ask(results.url, `/receipts/one-aaaaaaaaaaaaa.t0-1.1${escaped}`),
        await ask(dashboard.url, `/${escaped}`, 'GET', ANN),
        await ask(dashboard.url, `/queues/api/queues/${escaped}/${escaped}`, 'GET', ANN),
        await ask(dashboard.url, `/queues/api/queues/${escaped}/retry/${escaped}`, 'PUT', ANN),
      ];
      for (const [place, { status, body, headers }] of answers.entries()) {
        expect([200, 400, 401, 403, 404, 422], `${place} ${text}`).toContain(status);
        expect(body).not.toMatch(INTERNALS);
        // JSON may echo it: a browser does not parse JSON as markup.
        if (!String(headers['content-type']).includes('json')) expect(body).not.toMatch(MARKUP);
      }
    }
    expect(await votesCaptured()).toBe(before);
    expect((await database.db.selectFrom('polls').selectAll().execute()).length).toBeGreaterThanOrEqual(
      POLLS.polls.length,
    );
  });

  test('in questions and labels are text on every page, and quoted in CSV', async () => {
    for (const [place] of HOSTILE.entries()) {
      const { status } = await cast(vote, `choice-${place}`, undefined, `/polls/hostile-${place}/votes`);
      expect(status).toBe(202);
    }
    await untilAllCounted();
    const html = { accept: 'text/html' };
    const pages = [
      ...(await Promise.all(
        HOSTILE.map((_, place) => ask(vote.url, `/polls/hostile-${place}`, 'GET', html)),
      )),
      await ask(vote.url, '/', 'GET', html),
      await ask(results.url, '/', 'GET', html),
      await ask(dashboard.url, '/', 'GET', { ...ANN, ...html }),
      await ask(dashboard.url, '/queues', 'GET', { ...ANN, ...html }),
    ];
    for (const { status, body, headers } of pages) {
      expect(status).toBe(200);
      expect(body).not.toMatch(MARKUP);
      expect(headers['content-security-policy']).toContain("default-src 'none'");
    }
    expect(pages[0]?.body).toContain('&lt;script&gt;');

    for (const [place, question] of HOSTILE.entries()) {
      const answer = await until('its vote is in the results', async () => {
        const fresh = await ask(results.url, `/polls/hostile-${place}/results`);
        return (JSON.parse(fresh.body) as { total: number }).total === 1 && fresh;
      });
      expect(JSON.parse(answer.body)).toMatchObject({ question: question.trim() });
      expect(answer.headers['content-type']).toContain('application/json');
      expect(answer.headers['x-content-type-options']).toBe('nosniff');
      const table = await ask(results.url, `/polls/hostile-${place}/results.csv`);
      expect(table.headers['content-disposition']).toContain('attachment');
      expect(table.body).not.toMatch(/(^|,)"?=HYPERLINK/m);
    }
  });

  test('in a forged ledger entry are not shown as markup', async () => {
    expect((await cast(secondVote, 'cats')).status).toBe(202);
    const evil = '<script>window.pwned=1</script>';
    await other.client.hset('turnout:ledger', { [evil]: '1:1', [`${evil}-aaaaaaaaaaaaa.t0-1`]: '1:1' });
    try {
      const page = await until('the ledger was read again', async () => {
        const { body } = await ask(dashboard.url, '/', 'GET', { ...ANN, accept: 'text/html' });
        return body.includes('two-') && body;
      });
      expect(page).not.toMatch(MARKUP);
      expect((await ask(dashboard.url, '/ledger', 'GET', ANN)).body).not.toContain('window.pwned');
    } finally {
      await other.client.hdel('turnout:ledger', evil, `${evil}-aaaaaaaaaaaaa.t0-1`);
    }
  });
});
