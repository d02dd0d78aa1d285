import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import AxeBuilder from '@axe-core/playwright';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findProgram } from '#dev/path.mjs';
import { ROOT } from '#dev/root.ts';
import { CHROMIUM, startBrowser } from '#kit/browser.ts';
import { createDatabase, type TestDatabase } from '#kit/postgres.ts';
import { scratchFolder } from '#kit/process.ts';
import { startRedis, type TestRedis } from '#kit/redis.ts';
import { startService, type TestService, voteEnv } from '#kit/system.ts';
import { until } from '#kit/until.ts';

const PHONE = { width: 390, height: 844 };
const DESKTOP = { width: 1_280, height: 800 };
const NARROW = { width: 320, height: 640 };
const WIDE = { width: 3_840, height: 2_160 };
/** Each state is photographed here, light and dark, on a phone and on a desktop. */
const PICTURES = join(ROOT, 'dist/pages');

const USERS = 'ada:operator-password,viewer/guest:viewer-password';
const HOUR_MS = 3_600_000;
const CHOICES = [
  { id: 'cats', label: 'Cats' },
  { id: 'dogs', label: 'Dogs' },
];
const fromNow = (ms: number) => new Date(Date.now() + ms).toISOString();
const POLLS = [
  { id: 'pets', question: 'Cats or dogs tonight?', choices: CHOICES, closesAt: fromNow(HOUR_MS) },
  { id: 'later', question: 'Which one is next?', choices: CHOICES, opensAt: fromNow(HOUR_MS) },
  { id: 'over', question: 'Which one was it?', choices: CHOICES, closesAt: fromNow(-HOUR_MS) },
  { id: 'secret', question: 'Who is it?', choices: CHOICES, results: 'closed' },
  {
    id: 'arabic',
    question: 'القطط أم الكلاب؟',
    choices: [
      { id: 'cats', label: 'القطط' },
      { id: 'dogs', label: 'الكلاب' },
    ],
    lang: 'ar',
    texts: { invitation: 'اضغط للتصويت', thanks: 'شكرا! صوتك:', notOpen: 'تفتح في', closed: 'مغلق' },
  },
  {
    id: 'many',
    question: 'Who was the best player of the season?',
    choices: Array.from({ length: 20 }, (_, index) => ({ id: `p${index}`, label: `Player ${index}` })),
  },
];

describe.skipIf(!CHROMIUM)('axe finds no fault, and nothing scrolls sideways, on', () => {
  let folder: Awaited<ReturnType<typeof scratchFolder>>;
  let redis: TestRedis;
  let database: TestDatabase;
  let browser: Browser;
  let vote: TestService;
  let worker: TestService;
  let results: TestService;
  let dashboard: TestService;
  let receipt: string;

  beforeAll(async () => {
    [folder, redis, database] = await Promise.all([scratchFolder(), startRedis(), createDatabase()]);
    await mkdir(PICTURES, { recursive: true });
    const pollsFile = join(folder.path, 'polls.json');
    await writeFile(pollsFile, JSON.stringify({ version: 2, polls: POLLS }));
    const start = (bundle: 'vote' | 'worker' | 'results' | 'dashboard', env: Record<string, string>) =>
      startService({ bundle, env, folder: folder.path });
    const stored = { DATABASE_URL: database.url };
    const queued = { ...stored, QUEUE_NODES: redis.socket };
    [vote, worker, dashboard, browser] = await Promise.all([
      start('vote', { ...voteEnv('frontend01', redis.socket), RECEIPTS_URL: 'https://results.example' }),
      start('worker', { ...queued, POLLS_FILE: pollsFile }),
      start('dashboard', { ...queued, DASHBOARD_USERS: USERS }),
      startBrowser(),
    ]);
    results = await start('results', { ...stored, VOTE_URL: vote.url });
    await until('the polls are at the handler', async () => (await fetch(`${vote.url}/polls/many`)).ok);
    receipt = await castVote();
    const statusOf = async () => (await fetch(`${results.url}/receipts/${receipt}`)).text();
    await until('the vote is counted', async () => (await statusOf()).includes('"counted"'));
    const resultOf = async (poll: string) => (await fetch(`${results.url}/polls/${poll}/results`)).text();
    await until('a poll is final', async () => (await resultOf('over')).includes('"final"'), 30_000);
  });
  afterAll(async () => {
    await browser?.close();
    await Promise.all([vote, worker, results, dashboard].map((service) => service?.end()));
    await Promise.all([redis?.remove(), database?.remove()]);
    await folder?.remove();
  });

  async function castVote(): Promise<string> {
    const response = await fetch(`${vote.url}/polls/pets/votes`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ choice: 'cats' }),
    });
    return ((await response.json()) as { receipt: string }).receipt;
  }

  async function nodePath(): Promise<string> {
    const authorization = `Basic ${btoa('ada:operator-password')}`;
    const response = await fetch(`${dashboard.url}/ledger`, { headers: { authorization } });
    const [node] = ((await response.json()) as { nodes: { node: string }[] }).nodes;
    return `/nodes/${node?.node}`;
  }

  const tap = (page: Page, name: string) => page.getByRole('button', { name }).click();

  /** Each state: who looks, at which address, and what they do first. */
  const states: readonly [
    name: string,
    go: (page: Page) => Promise<unknown>,
    user?: 'operator' | 'viewer',
  ][] = [
    ['an open poll', (page) => page.goto(`${vote.url}/`)],
    ['a poll that opens later', (page) => page.goto(`${vote.url}/polls/later`)],
    ['a poll that has closed', (page) => page.goto(`${vote.url}/polls/over`)],
    ['a poll from right to left', (page) => page.goto(`${vote.url}/polls/arabic`)],
    ['a poll of twenty choices', (page) => page.goto(`${vote.url}/polls/many`)],
    ['the page without script', (page) => page.goto(`${vote.url}/polls/pets/ballot`)],
    ['a missing page', (page) => page.goto(`${vote.url}/polls/birds`)],
    [
      'a vote that is in',
      async (page) => {
        await page.goto(vote.url);
        await tap(page, 'Dogs');
        await page.getByText('Your vote is in').waitFor();
      },
    ],
    [
      'a vote that is tried again',
      async (page) => {
        await page.route('**/votes', (route) =>
          route.fulfill({ status: 503, headers: { 'retry-after': '60' } }),
        );
        await page.goto(vote.url);
        await tap(page, 'Dogs');
        await page.getByText('Trying again').waitFor();
      },
    ],
    [
      'a vote that is refused',
      async (page) => {
        await page.goto(vote.url);
        await page.evaluate(`document.querySelector('button[value=dogs]').value = 'birds'`);
        await tap(page, 'Dogs');
        await page.getByRole('alert').waitFor();
      },
    ],
    ['the results', (page) => page.goto(`${results.url}/`)],
    ['an embargoed result', (page) => page.goto(`${results.url}/polls/secret`)],
    ['a final result', (page) => page.goto(`${results.url}/polls/over`)],
    ['the wall', (page) => page.goto(`${results.url}/wall`)],
    ['the wall of twenty choices', (page) => page.goto(`${results.url}/polls/many/wall`)],
    ['a receipt that is counted', (page) => page.goto(`${results.url}/receipts/${receipt}`)],
    ['a receipt that is not known', (page) => page.goto(`${results.url}/receipts/x`)],
    ['a problem', (page) => page.goto(`${results.url}/problems/too_many`)],
    ["the operators' page", (page) => page.goto(`${dashboard.url}/`), 'operator'],
    ["a poll on the operators' page", (page) => page.goto(`${dashboard.url}/polls/pets`), 'operator'],
    ["a poll on a viewer's page", (page) => page.goto(`${dashboard.url}/polls/pets`), 'viewer'],
    [
      "a node on the operators' page",
      async (page) => page.goto(dashboard.url + (await nodePath())),
      'operator',
    ],
    ['the anomaly report', (page) => page.goto(`${dashboard.url}/anomalies`), 'operator'],
  ];

  test.each(states)('%s', async (name, go, user) => {
    const context = await browser.newContext({
      viewport: PHONE,
      reducedMotion: 'reduce',
      ...(user && {
        httpCredentials: { username: user === 'viewer' ? 'guest' : 'ada', password: `${user}-password` },
      }),
    });
    const page = await context.newPage();
    await go(page);
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme });
      for (const [device, viewport] of Object.entries({ phone: PHONE, desktop: DESKTOP })) {
        await page.setViewportSize(viewport);
        const path = join(PICTURES, `${name.replaceAll(/[^a-z]+/g, '-')}-${device}-${colorScheme}.png`);
        await page.screenshot({ path, fullPage: true });
        const { violations } = await new AxeBuilder({ page }).analyze();
        const faults = violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html)]);
        expect(faults, `${device}, ${colorScheme}`).toEqual([]);
      }
    }
    for (const viewport of [NARROW, WIDE]) {
      await page.setViewportSize(viewport);
      expect(await page.evaluate<number>('document.documentElement.scrollWidth')).toBeLessThanOrEqual(
        viewport.width,
      );
    }
    await context.close();
  });

  test.skipIf(!findProgram('zbarimg'))('the code on the wall is readable and leads to the vote', async () => {
    const page = await browser.newPage({ viewport: DESKTOP, colorScheme: 'dark' });
    await page.goto(`${results.url}/wall`);
    const path = join(folder.path, 'wall.png');
    await page.screenshot({ path });
    const { stdout } = await promisify(execFile)('zbarimg', ['--quiet', '--raw', path]);
    expect(stdout.trim()).toBe(`${vote.url}/polls/pets`);
    await page.close();
  });

  test('the wall fits a screen without scrolling, with 2 and with 20 choices', async () => {
    const page = await browser.newPage();
    for (const path of ['/wall', '/polls/many/wall']) {
      await page.goto(results.url + path);
      for (const viewport of [{ width: 1_280, height: 720 }, { width: 1_920, height: 1_080 }, WIDE]) {
        await page.setViewportSize(viewport);
        expect(await page.evaluate<number>('document.documentElement.scrollHeight')).toBe(viewport.height);
      }
    }
    await page.close();
  });
});
