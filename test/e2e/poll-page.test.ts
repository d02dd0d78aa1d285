import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Browser, BrowserContextOptions } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { closePoll } from '#db/control.ts';
import { CHROMIUM, startBrowser } from '#kit/browser.ts';
import { PIXEL, PIXEL_NAME } from '#kit/images.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { scratchFolder } from '#kit/process.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { startService, type TestService, voteEnv } from '#kit/system.ts';
import { until } from '#kit/until.ts';

const HOUR_MS = 3_600_000;
/** The page looks first after 1 to 3 s, and caches keep the old one for 5 s. */
const CHANGE_MS_MAX = 30_000;
const CHOICES = [
  { id: 'yes', label: 'Yes' },
  { id: 'no', label: 'No' },
];

describe.skipIf(!CHROMIUM)('the page of a poll', () => {
  let folder: Awaited<ReturnType<typeof scratchFolder>>;
  let redis: TestRedis;
  let database: TestDatabase;
  let vote: TestService;
  let worker: TestService;
  let browser: Browser;

  beforeAll(async () => {
    [folder, redis, database] = await Promise.all([scratchFolder(), startRedis(), createDatabase()]);
    const pollsFile = join(folder.path, 'polls.json');
    const polls = [
      {
        id: 'pets',
        question: 'Which one?',
        choices: [{ id: 'pixel', label: 'Pixel', image: 'pixel.png' }, ...CHOICES],
      },
      {
        id: 'tonight',
        question: 'Tonight?',
        choices: CHOICES,
        closesAt: new Date(Date.now() + 5 * HOUR_MS).toISOString(),
      },
      {
        id: 'later',
        question: 'Later?',
        choices: CHOICES,
        opensAt: new Date(Date.now() + 10_000).toISOString(),
      },
    ];
    await writeFile(join(folder.path, 'pixel.png'), Buffer.from(PIXEL, 'base64'));
    await writeFile(pollsFile, JSON.stringify({ version: 2, polls }));
    [vote, worker, browser] = await Promise.all([
      startService({
        bundle: 'vote',
        env: { ...voteEnv('frontend01', redis.socket), RECEIPTS_URL: 'https://results.example' },
        folder: folder.path,
      }),
      startService({
        bundle: 'worker',
        env: { DATABASE_URL: database.url, QUEUE_NODES: redis.socket, POLLS_FILE: pollsFile },
        folder: folder.path,
      }),
      startBrowser(),
    ]);
    await until('the polls are at the handler', async () => (await fetch(`${vote.url}/polls/later`)).ok);
  });
  afterAll(async () => {
    await browser?.close();
    await Promise.all([vote?.end(), worker?.end()]);
    await Promise.all([redis?.remove(), database?.remove()]);
    await folder?.remove();
  });

  async function visit(poll: string, options: BrowserContextOptions = {}) {
    const context = await browser.newContext(options);
    onTestFinished(() => context.close());
    const page = await context.newPage();
    await page.clock.install();
    await page.goto(`${vote.url}/polls/${poll}`);
    return page;
  }

  test('opens by itself when its time has come', async () => {
    const page = await visit('later');
    const button = page.getByRole('button', { name: 'Yes' });
    expect(await button.isDisabled()).toBe(true);
    expect(await page.locator('#countdown').textContent()).toMatch(/^ \(in \d+ seconds?\)$/);
    await until('it is open', () => button.isEnabled(), CHANGE_MS_MAX);
    await button.click();
    await page.getByText('Your vote is in: Yes.').waitFor();
  });

  test('shows the image that lies beside the polls file of a worker', async () => {
    const page = await visit('pets');
    const image = page.getByRole('button', { name: 'Pixel' }).locator('img');
    await until('the image is loaded', () =>
      image.evaluate((element) => (element as unknown as { naturalWidth: number }).naturalWidth > 0),
    );
    expect(await image.getAttribute('src')).toBe(`/images/${PIXEL_NAME}`);
    expect(await page.locator('img').count()).toBe(1);
  });

  test('shows the receipt, which names the node and links to its status', async () => {
    const page = await visit('pets');
    await page.getByRole('button', { name: 'No' }).click();
    const link = page.getByRole('link', { name: /^frontend01-/ });
    const receipt = await link.textContent();
    expect(await link.getAttribute('href')).toBe(`https://results.example/receipts/${receipt}`);
    await page.reload();
    expect(await link.textContent()).toBe(receipt);
  });

  test("counts down to the close in the reader's own zone, and follows an operator who closes earlier", async () => {
    const page = await visit('tonight', { timezoneId: 'Asia/Kolkata', locale: 'en-GB' });
    const time = page.locator('time');
    const at = new Date((await time.getAttribute('datetime')) ?? '');
    const format = new Intl.DateTimeFormat('en', {
      dateStyle: 'long',
      timeStyle: 'short',
      timeZone: 'Asia/Kolkata',
    });
    expect(await time.textContent()).toBe(format.format(at));
    expect(await page.locator('#countdown').textContent()).toBe(' (in 4 hours)');
    await page.getByRole('button', { name: 'Yes' }).click();
    await page.getByText('Your vote is in: Yes.').waitFor();

    // Its time has passed, but no handler answers: the page stays.
    let asked = 0;
    await page.evaluate('window.isSamePage = true');
    await page.route('**/tonight.json', async (route) => {
      asked += 1;
      await route.fulfill({ status: 503, json: {} });
    });
    await page.clock.fastForward(5 * HOUR_MS);
    await until('the page has asked', async () => {
      await page.clock.fastForward(5_000);
      return asked > 1;
    });
    expect(await page.evaluate('window.isSamePage')).toBe(true);
    await page.unroute('**/tonight.json');

    await closePoll(database.db, 'tonight', { who: 'ada', why: 'the show is over' });
    await until(
      'the handler has closed it',
      async () => !(await (await fetch(`${vote.url}/polls/tonight`)).text()).includes('Tap to vote.'),
      CHANGE_MS_MAX,
    );
    await until(
      'the page is that of a closed poll',
      async () => {
        await page.clock.fastForward(60_000);
        return (await page.getByText('This poll is closed.').count()) > 0;
      },
      CHANGE_MS_MAX,
    );
    expect(await page.getByRole('button', { name: 'Yes', pressed: true }).isDisabled()).toBe(true);
    expect(await page.getByRole('status').textContent()).toContain('Your vote is in: Yes.');
  });
});
