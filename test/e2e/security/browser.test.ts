import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CHROMIUM, startBrowser } from '#kit/browser.ts';
import { until } from '#kit/until.ts';
import {
  dashboard,
  HOSTILE,
  PASSWORD,
  requestsRefused,
  results,
  VOTES,
  vote,
  votesCaptured,
} from './fixture.ts';

describe.skipIf(!CHROMIUM)('in a real browser (skipped where chromium is not installed)', () => {
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  let attacker: Server;
  let attackerPort: number;

  /** Pages of the attacker's site; each attacks when it loads. */
  const attacks: Readonly<Record<string, string>> = {
    '/form': `<form method="post" action="TARGET"><input name="choice" value="dogs"></form>
      <script>document.forms[0].submit()</script>`,
    '/form-without-referrer': `<meta name="referrer" content="no-referrer">
      <form method="post" action="TARGET"><input name="choice" value="dogs"></form>
      <script>document.forms[0].submit()</script>`,
    '/form-in-a-sandbox': `<iframe sandbox="allow-forms allow-scripts" name="frame" srcdoc='<form method="post"
      action="TARGET"><input name="choice" value="dogs"></form><script>document.forms[0].submit()</script>'></iframe>`,
    '/text': `<form method="post" action="TARGET" enctype="text/plain"><input name='{"choice":"dogs","x":"'
      value='"}'></form><script>document.forms[0].submit()</script>`,
    '/fetch': `<script>fetch('TARGET', { method: 'POST', mode: 'no-cors', credentials: 'include',
      body: new URLSearchParams({ choice: 'dogs' }) })</script>`,
    '/json': `<script>fetch('TARGET', { method: 'POST', credentials: 'include', body: '{"choice":"dogs"}',
      headers: { 'content-type': 'application/json' } }).catch(() => {})</script>`,
    '/beacon': `<script>navigator.sendBeacon('TARGET', new URLSearchParams({ choice: 'dogs' }));</script>`,
  };

  beforeAll(async () => {
    attacker = createServer((request, response) => {
      const text = attacks[request.url ?? ''] ?? `<iframe id="frame" src="${vote.url}/"></iframe>`;
      response.setHeader('Content-Type', 'text/html');
      response.end(text.replaceAll('TARGET', `${vote.url}${VOTES}`));
    });
    await new Promise<void>((resolve) => attacker.listen(0, resolve));
    attackerPort = (attacker.address() as AddressInfo).port;
    browser = await startBrowser();
    context = await browser.newContext();
    page = await context.newPage();
    await page.goto(vote.url);
    await page.getByRole('button', { name: 'Cats' }).click();
    await page.getByText('Your vote is in').waitFor();
  });
  afterAll(async () => {
    await browser?.close();
    attacker?.closeAllConnections();
    await new Promise((resolve) => attacker?.close(resolve));
  });

  // 127.0.0.1 is the same site as the voting page, so the browser sends the voter's cookie; localhost is another site.
  const hosts = ['127.0.0.1', 'localhost'];
  const cases = hosts.flatMap((host) => Object.keys(attacks).map((path) => [host, path] as const));
  test.each(cases)('another site at %s cannot vote for its visitor: %s', async (host, path) => {
    const [before, refusedBefore] = [await votesCaptured(), await requestsRefused()];
    await page.goto(`http://${host}:${attackerPort}${path}`);
    await until('the forged request was refused', async () => (await requestsRefused()) > refusedBefore);
    expect(await votesCaptured()).toBe(before);
  });

  test('another site cannot embed the page in a frame', async () => {
    await page.goto(`http://127.0.0.1:${attackerPort}/frame`);
    const frame = await until('the frame has loaded something', () => page.frames()[1]);
    await frame.waitForLoadState();
    expect(await frame.getByRole('button').count()).toBe(0);
  });

  test('the voter can still vote on the real page', async () => {
    await page.goto(vote.url);
    expect(await page.getByRole('button', { name: 'Cats', pressed: true }).count()).toBe(1);
    await page.getByRole('button', { name: 'Dogs' }).click();
    await page.getByText('Your vote is in: Dogs').waitFor();
  });

  test('hostile questions and labels run no script on any page', async () => {
    const operator = await browser.newContext({ httpCredentials: { username: 'ann', password: PASSWORD } });
    const visited = await operator.newPage();
    const urls = [
      ...HOSTILE.map((_, place) => `${vote.url}/polls/hostile-${place}`),
      results.url,
      dashboard.url,
      `${dashboard.url}/queues`,
    ];
    for (const url of urls) {
      await visited.goto(url);
      expect(await visited.evaluate('window.pwned'), url).toBeUndefined();
      expect(await visited.locator('img[src="x"], svg[onload]').count(), url).toBe(0);
    }
    await visited.goto(`${vote.url}/polls/hostile-0`);
    expect(await visited.getByRole('heading', { level: 1 }).textContent()).toBe(HOSTILE[0]);
    await operator.close();
  });
});
