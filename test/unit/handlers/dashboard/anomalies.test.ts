import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { AnomalyReport } from '#audit/anomalies.ts';
import { LiveAnomalies } from '#handlers/dashboard/live-anomalies.ts';
import { report } from '#kit/anomaly-fixtures.ts';
import { recordLog } from '#kit/log.ts';
import { DeadlineError } from '#runtime/deadline.ts';
import { createApp, KNOWN } from './dashboard.ts';

describe('the page of how votes came in', () => {
  const pageOf = async (...[outcome]: [Parameters<typeof createApp>[3]]): Promise<string> => {
    const response = await createApp({}, 'done', undefined, outcome).request('/anomalies', {
      headers: KNOWN,
    });
    expect(response.status).toBe(200);
    expect(response.headers.get('cache-control')).toBe('no-store');
    return response.text();
  };

  test('shows every poll and node with numbers and no verdict', async () => {
    const polls = report.polls.map((poll) => ({ ...poll, poll: `<${poll.poll}>` }));
    const text = await pageOf({ report: { ...report, polls } });
    expect(text).toMatch(/<h2 id="[^"]+">Poll &lt;cats-vs-dogs&gt;<\/h2>/);
    expect(text).toContain('No votes are stored for this poll.');
    expect(text).toContain(
      '<th scope="row">2027-02-07 11:59</th><td class="number">900</td><td class="number">15.0</td>',
    );
    expect(text).toContain('frontend02 (bbbbbbbbbbbbb)');
    expect(text).not.toMatch(/fraud|suspicious/i);
  });

  test('names the command when there are too many votes', async () => {
    expect(await pageOf({ fault: 'too slow' })).toContain('<code>npm run audit -- --anomalies</code>');
  });

  test('shows that Postgres is down', async () => {
    expect(await pageOf({ fault: 'Postgres', reason: 'no <connection>' })).toContain(
      'Postgres is unavailable (no &lt;connection&gt;)',
    );
  });

  test('is linked from the audit', async () => {
    const response = await createApp().request('/', { headers: KNOWN });
    expect(await response.text()).toContain('href="/anomalies"');
  });
});

describe('the report on demand', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  function live() {
    const runs: PromiseWithResolvers<AnomalyReport>[] = [];
    const { log, lines } = recordLog();
    const anomalies = new LiveAnomalies({
      collect: () => {
        const run = Promise.withResolvers<AnomalyReport>();
        runs.push(run);
        return run.promise;
      },
      log,
    });
    return { anomalies, runs, lines };
  }

  test('is collected once at a time, and again after a minute', async () => {
    const { anomalies, runs } = live();
    const both = [anomalies.latest(), anomalies.latest()];
    expect(runs).toHaveLength(1);
    runs[0]?.resolve(report);
    expect(await Promise.all(both)).toEqual([{ report }, { report }]);
    vi.advanceTimersByTime(59_999);
    expect(await anomalies.latest()).toEqual({ report });
    expect(runs).toHaveLength(1);
    vi.advanceTimersByTime(1);
    void anomalies.latest();
    expect(runs).toHaveLength(2);
  });

  test('is too slow after 40 s, and is still collected once', async () => {
    const { anomalies, runs } = live();
    const slow = anomalies.latest();
    vi.advanceTimersByTime(40_000);
    expect(await slow).toEqual({ fault: 'too slow' });
    const second = anomalies.latest();
    expect(runs).toHaveLength(1);
    runs[0]?.resolve(report);
    expect(await second).toEqual({ report });
  });

  test('keeps a failure for a minute too, and logs its reason', async () => {
    const { anomalies, runs, lines } = live();
    const first = anomalies.latest();
    runs[0]?.reject(new DeadlineError('the report took over 30000 ms'));
    expect(await first).toEqual({ fault: 'too slow' });
    expect(await anomalies.latest()).toEqual({ fault: 'too slow' });
    expect(runs).toHaveLength(1);
    expect(lines).toMatchObject([{ message: 'anomaly report failed' }]);
    vi.advanceTimersByTime(60_000);
    const next = anomalies.latest();
    runs[1]?.reject(new Error('no connection'));
    expect(await next).toEqual({ fault: 'Postgres', reason: 'no connection' });
  });
});
