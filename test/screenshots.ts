import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Browser, BrowserContextOptions } from 'playwright-core';
import { ROOT } from '#dev/root.ts';
import { startBrowser } from '#kit/browser.ts';
import { scratchFolder } from '#kit/process.ts';
import { installPrograms } from '#kit/programs.ts';
import { until } from '#kit/until.ts';

/**
 * `npm run screenshots`: starts the whole system, casts votes, and writes the pictures of README.md to
 * `stack/screenshots/`: light mode, real data.
 */

const FOLDER = join(ROOT, 'stack/screenshots');
const PORT = 18_080;
const VOTES = { cats: 412, dogs: 377 };
const POLL = 'cats-vs-dogs';
const START_MS_MAX = 120_000;

const PHONE = { width: 390, height: 700 };
const DESKTOP = { width: 1_000, height: 898 };

await installPrograms();
await mkdir(FOLDER, { recursive: true });
const folder = await scratchFolder();
const system = spawn(
  process.execPath,
  [join(ROOT, 'stack/dev/start/main.ts'), '--port', String(PORT), '--data', folder.path],
  { stdio: ['ignore', 'ignore', 'inherit'] },
);
try {
  await until('the system is ready', () => isUp(PORT), START_MS_MAX);
  await castVotes();
  await until('all votes are counted', async () => (await countedVotes()) === VOTES.cats + VOTES.dogs);
  const browser = await startBrowser();
  await photographVote(browser);
  await photograph(browser, 'results', `http://127.0.0.1:${PORT + 1}/`, { viewport: PHONE });
  const users = await readFile(join(folder.path, 'secrets/dashboard.users'), 'utf8');
  const [username = '', password = ''] = users.trim().split(':');
  await photograph(browser, 'dashboard', `http://127.0.0.1:${PORT + 2}/`, {
    viewport: DESKTOP,
    httpCredentials: { username, password },
  });
  await browser.close();
} finally {
  if (system.exitCode === null) {
    system.kill('SIGTERM');
    await once(system, 'exit');
  }
  await folder.remove();
}

async function isUp(port: number): Promise<boolean> {
  return (
    (await fetch(`http://127.0.0.1:${port}/`)).ok &&
    (await fetch(`http://127.0.0.1:${port + 2}/`)).status === 401
  );
}

/** Each vote without a token creates a voter; votes alternate between the two frontends. */
async function castVotes(): Promise<void> {
  const choices = Object.entries(VOTES).flatMap(([choice, count]) => Array<string>(count).fill(choice));
  await Promise.all(
    choices.map(async (choice, index) => {
      const port = PORT + (index % 2) * 10;
      const response = await fetch(`http://127.0.0.1:${port}/polls/${POLL}/votes`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ choice }),
      });
      if (response.status !== 202) throw new Error(`a vote got ${response.status}`);
      await response.text();
    }),
  );
}

async function countedVotes(): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${PORT + 1}/polls/${POLL}/results`);
  return ((await response.json()) as { total: number }).total;
}

async function photograph(
  browser: Browser,
  name: string,
  url: string,
  options: BrowserContextOptions,
): Promise<void> {
  const context = await browser.newContext({ colorScheme: 'light', reducedMotion: 'reduce', ...options });
  const page = await context.newPage();
  await page.goto(url, { waitUntil: 'load' });
  await page.screenshot({ path: join(FOLDER, `${name}.png`) });
  console.log(`stack/screenshots/${name}.png`);
  await context.close();
}

/** The voting page after a vote: the choice is marked. */
async function photographVote(browser: Browser): Promise<void> {
  const context = await browser.newContext({
    viewport: PHONE,
    colorScheme: 'light',
    reducedMotion: 'reduce',
  });
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${PORT}/polls/${POLL}`);
  await page.getByRole('button', { name: 'Cats' }).click();
  await page.getByRole('status').waitFor();
  await page.screenshot({ path: join(FOLDER, 'vote.png') });
  console.log('stack/screenshots/vote.png');
  await context.close();
}
