import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CHROMIUM, startBrowser } from '#kit/browser.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { scratchFolder } from '#kit/process.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { startService, type TestService, voteEnv } from '#kit/system.ts';
import { until } from '#kit/until.ts';

const PHONE = { width: 390, height: 844 };
const TOUCH_TARGET_PIXELS_MIN = 48;

describe.skipIf(!CHROMIUM)('in a browser on a phone', () => {
  let database: TestDatabase;
  let folder: Awaited<ReturnType<typeof scratchFolder>>;
  let redis: TestRedis;
  let browser: Browser;
  let vote: TestService;
  let worker: TestService;
  let results: TestService;

  beforeAll(async () => {
    database = await createDatabase();
    folder = await scratchFolder();
    redis = await startRedis();
    const env = { DATABASE_URL: database.url, QUEUE_NODES: redis.socket };
    [vote, worker, results] = await Promise.all([
      startService({ bundle: 'vote', env: voteEnv('phone', redis.socket), folder: folder.path }),
      startService({ bundle: 'worker', env, folder: folder.path }),
      startService({ bundle: 'results', env, folder: folder.path }),
    ]);
    browser = await startBrowser();
  });
  afterAll(async () => {
    await browser?.close();
    await Promise.all([vote, worker, results].map((service) => service?.end()));
    await redis?.remove();
    await database?.remove();
    await folder?.remove();
  });

  /** Opens a page as a new visitor, and collects the browser's errors. */
  async function visit(url: string, javaScriptEnabled: boolean): Promise<{ page: Page; errors: string[] }> {
    const context = await browser.newContext({ viewport: PHONE, javaScriptEnabled });
    const page = await context.newPage();
    const errors: string[] = [];
    page.on('console', (message) => {
      if (message.type() === 'error') errors.push(message.text());
    });
    page.on('pageerror', (error) => errors.push(error.message));
    page.on('requestfailed', (request) => errors.push(`${request.url()} failed`));
    await page.goto(url);
    return { page, errors };
  }

  const saysVoteFor = (page: Page, choice: string) =>
    page
      .getByRole('status')
      .filter({ hasText: `Your vote is in: ${choice}.` })
      .waitFor();

  test.each([true, false])(
    'a voter votes, sees the vote and changes it (JavaScript: %s)',
    async (javaScriptEnabled) => {
      const { page, errors } = await visit(vote.url, javaScriptEnabled);
      await page.getByRole('button', { name: 'Dogs' }).click();
      await saysVoteFor(page, 'Dogs');
      expect(await page.getByRole('button', { name: 'Dogs', pressed: true }).count()).toBe(1);
      await page.getByRole('button', { name: 'Cats' }).click();
      await saysVoteFor(page, 'Cats');
      await page.reload();
      await saysVoteFor(page, 'Cats');
      expect(errors).toEqual([]);
      await page.context().close();
    },
  );

  test('both voters count once, with their last choice, and the results show it without JavaScript', async () => {
    const counted = await until('both votes are counted', async () => {
      const answer = await fetch(`${results.url}/polls/cats-vs-dogs/results`);
      const body = (await answer.json()) as { total: number; choices: { votes: number }[] };
      return body.total === 2 && body.choices.map(({ votes }) => votes);
    });
    expect(counted).toEqual([2, 0]);
    const { page, errors } = await visit(results.url, false);
    expect(await page.getByText('100.0%').count()).toBeGreaterThan(0);
    expect(errors).toEqual([]);
    await page.context().close();
  });

  test('an open results page follows the count', async () => {
    const { page, errors } = await visit(results.url, true);
    const voter = await visit(vote.url, true);
    await voter.page.getByRole('button', { name: 'Dogs' }).click();
    await page.getByText('66.7%').first().waitFor();
    expect(errors).toEqual([]);
    await Promise.all([page.context().close(), voter.page.context().close()]);
  });

  describe('with a script', () => {
    const storedVoters = async () =>
      (await database.db.selectFrom('votes').select('voter_id').execute()).length;
    const open = async (choice: string) => {
      const { page } = await visit(vote.url, true);
      return { page, tap: () => page.getByRole('button', { name: choice }).click() };
    };

    test('a vote whose answers are lost is sent again until one arrives, and counts once', async () => {
      const before = await storedVoters();
      const { page, tap } = await open('Dogs');
      let sent = 0;
      await page.route('**/votes', async (route) => {
        sent += 1;
        const response = await route.fetch();
        // The cookie of the first answer is lost too, and the second says nothing about the first.
        if (sent === 1) await route.abort();
        else if (sent === 2) await route.fulfill({ status: 408 });
        else await route.fulfill({ response });
      });
      await tap();
      await saysVoteFor(page, 'Dogs');
      expect(sent).toBe(3);
      await until('the vote is counted', async () => (await storedVoters()) > before);
      expect(await storedVoters()).toBe(before + 1);
      await page.context().close();
    });

    test.each([429, 503])('a vote that gets %i is sent again, and the page says so', async (status) => {
      const { page, tap } = await open('Cats');
      const answers = [status, status];
      await page.route('**/votes', (route) => {
        const next = answers.shift();
        return next ? route.fulfill({ status: next, headers: { 'retry-after': '1' } }) : route.continue();
      });
      await tap();
      await page.getByRole('status').filter({ hasText: 'Many people are voting right now.' }).waitFor();
      await saysVoteFor(page, 'Cats');
      await page.context().close();
    });

    test('a choice that changes while the first is on its way is the last to arrive', async () => {
      const { page, tap } = await open('Dogs');
      const bodies: (string | null)[] = [];
      await page.route('**/votes', async (route) => {
        bodies.push(route.request().postData());
        if (bodies.length === 1) {
          await page.getByRole('button', { name: 'Cats' }).click();
          await route.fulfill({ status: 503 });
        } else await route.continue();
      });
      await tap();
      await saysVoteFor(page, 'Cats');
      expect(bodies).toEqual(['choice=dogs', 'choice=cats']);
      await page.context().close();
    });

    test('a vote that is refused shows the page that says why', async () => {
      const { page, tap } = await open('Dogs');
      await page.evaluate(`document.querySelector('button[value=dogs]').value = 'birds'`);
      await tap();
      await page.getByRole('alert').waitFor();
      expect(page.url()).toBe(`${vote.url}/polls/cats-vs-dogs/votes`);
      await page.context().close();
    });

    test('the device remembers its choice', async () => {
      const { page, tap } = await open('Dogs');
      await tap();
      await saysVoteFor(page, 'Dogs');
      await page.goto(vote.url);
      await saysVoteFor(page, 'Dogs');
      expect(await page.getByRole('button', { name: 'Dogs', pressed: true }).count()).toBe(1);
      await page.context().close();
    });
  });

  test('every page fits the screen, and every button is large enough for a thumb', async () => {
    for (const url of [vote.url, `${vote.url}/polls/best-snack`, results.url]) {
      const { page } = await visit(url, true);
      const width = await page.evaluate<number>('document.documentElement.scrollWidth');
      expect(width).toBeLessThanOrEqual(PHONE.width);
      for (const button of await page.getByRole('button').all()) {
        expect((await button.boundingBox())?.height).toBeGreaterThanOrEqual(TOUCH_TARGET_PIXELS_MIN);
      }
      await page.context().close();
    }
  });
});
