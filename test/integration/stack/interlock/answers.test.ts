import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import AxeBuilder from '@axe-core/playwright';
import type { Browser } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CHROMIUM, startBrowser } from '#kit/browser.ts';
import { haproxyIsMissing, service, startDns, startHaProxy, type TestHaProxy } from '#kit/haproxy.ts';
import { ask } from '#kit/raw-http.ts';
import { until } from '#kit/until.ts';
import { startInterlock, type TestInterlock, untilRouted } from './interlock.ts';

const STATUSES = [400, 404, 405, 408, 429, 502, 503, 504];
const BROWSER = { accept: 'text/html,application/xhtml+xml,*/*;q=0.8' };

/** A frontend that refuses each request with the status in its path. */
const REFUSALS = `
frontend refusals from web
  bind "\${PROXY_HTTP}"
${STATUSES.map((status) => `  http-request deny deny_status ${status} if { path /${status} }`).join('\n')}
`;

/** Seconds of `Retry-After` and `Refresh`, which are random. */
const withoutSeconds = (headers: NodeJS.Dict<string | string[]>): string =>
  Object.entries(headers)
    .filter(([name]) => name !== 'date')
    .map(([name, value]) => `${name}: ${/^(retry-after|refresh)$/.test(name) ? 'SECONDS' : value}`)
    .toSorted()
    .join('\n');

describe.skipIf(haproxyIsMissing)('the proxy’s own answers', () => {
  let dns: Awaited<ReturnType<typeof startDns>>;
  let haproxy: TestHaProxy;
  let url: string;
  beforeAll(async () => {
    dns = await startDns();
    haproxy = await startHaProxy(dns.port);
    await writeFile(join(haproxy.folder, 'conf.d/refusals.cfg'), REFUSALS);
    await haproxy.stop();
    await haproxy.start();
    url = `http://127.0.0.1:${haproxy.port}`;
  });
  afterAll(async () => {
    await haproxy.remove();
    await dns.close();
  });

  test.each([
    ['a program', 'GET', {}],
    ['a browser', 'GET', BROWSER],
    ['a browser that sends a form', 'POST', BROWSER],
  ] as const)('to %s match the golden file', async (who, method, headers) => {
    const answers: string[] = [];
    for (const status of STATUSES) {
      const answer = await ask(url, `/${status}`, method, headers);
      answers.push(`${answer.status}\n${withoutSeconds(answer.headers)}\n\n${answer.body}\n`);
    }
    await expect(answers.join('\n')).toMatchFileSnapshot(`golden/${who.replaceAll(' ', '-')}.txt`);
  });

  test('to programs are problems with their status and a code', async () => {
    for (const status of STATUSES) {
      const { headers, body } = await ask(url, `/${status}`, 'GET', { accept: 'application/json' });
      expect(headers['content-type']).toBe('application/problem+json');
      expect(JSON.parse(body)).toMatchObject({ status, code: expect.stringMatching(/^[a-z_]+$/) });
    }
  });

  test('spread their retries', async () => {
    const seconds = new Set<number>();
    await until('retries differ', async () => {
      const { headers } = await ask(url, '/503', 'GET', BROWSER);
      expect(headers['refresh']).toBe(headers['retry-after']);
      seconds.add(Number(headers['retry-after']));
      return seconds.size >= 4;
    });
    expect(Math.min(...seconds)).toBeGreaterThanOrEqual(3);
    expect(Math.max(...seconds)).toBeLessThanOrEqual(10);
  });

  test('allow their own style only', async () => {
    const { headers, body } = await ask(url, '/404', 'GET', BROWSER);
    const style = /<style>(.*)<\/style>/.exec(body)?.[1] ?? '';
    const hash = createHash('sha256').update(style).digest('base64');
    expect(headers['content-security-policy']).toContain(`default-src 'none'; style-src 'sha256-${hash}';`);
  });
});

describe.skipIf(haproxyIsMissing || !CHROMIUM)('the proxy’s pages in a browser', () => {
  let interlock: TestInterlock;
  let browser: Browser;
  beforeAll(async () => {
    interlock = await startInterlock();
    await interlock.deploy(service('late', { hosts: 'localhost', port: String(interlock.taskPort) }));
    await until('it is routed', async () => (await interlock.status('localhost')) === 503);
    browser = await startBrowser();
  });
  afterAll(async () => {
    await browser?.close();
    await interlock.close();
  });

  test.each(['light', 'dark'] as const)(
    'are styled, ask for nothing else and fit a phone: %s',
    async (colorScheme) => {
      const context = await browser.newContext({ colorScheme, viewport: { width: 320, height: 568 } });
      const page = await context.newPage();
      const requests: string[] = [];
      const complaints: string[] = [];
      page.on('request', (request) => requests.push(request.url()));
      page.on('console', (message) => {
        if (!message.text().includes('503')) complaints.push(message.text());
      });
      await page.goto(`http://localhost:${interlock.haproxy.port}/`);
      expect(await page.title()).toBe('Please wait a moment');
      expect(await page.getByRole('main').getByRole('heading', { level: 1 }).textContent()).toBe(
        'Please wait a moment',
      );
      const look = await page.evaluate(`({
        background: getComputedStyle(document.documentElement).backgroundColor,
        overflows: document.documentElement.scrollWidth > innerWidth,
        lang: document.documentElement.lang,
      })`);
      expect(look).toEqual({
        background: colorScheme === 'light' ? 'rgb(247, 245, 240)' : 'rgb(18, 17, 25)',
        overflows: false,
        lang: 'en',
      });
      expect([requests.length, complaints]).toEqual([1, []]);
      const { violations } = await new AxeBuilder({ page }).analyze();
      expect(violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html)])).toEqual([]);
      await context.close();
    },
  );

  test('lead back to the site by themselves, without script', async () => {
    const context = await browser.newContext({ javaScriptEnabled: false });
    const page = await context.newPage();
    await page.goto(`http://localhost:${interlock.haproxy.port}/`);
    expect(await page.getByText('tries again by itself').count()).toBe(1);
    await interlock.task('127.0.9.1');
    interlock.dns.names.set('tasks.late.net', ['127.0.9.1']);
    await untilRouted(interlock, 'localhost');
    await page.getByText('127.0.9.1').waitFor({ timeout: 15_000 });
    await context.close();
  });
});
