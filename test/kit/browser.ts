import { type Browser, chromium } from 'playwright-core';
import { findProgram } from '#dev/path.mjs';

/** Chromium must contact nothing but the pages under test. */
const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Path of Chromium; `undefined` if it is not installed, and browser tests are skipped. */
export const CHROMIUM = findProgram('chromium');

/** Starts a headless browser. */
export async function startBrowser(): Promise<Browser> {
  if (!CHROMIUM) throw new Error('Chromium is not installed; on Debian, run: apt-get install chromium');
  return chromium.launch({ executablePath: CHROMIUM, args: ARGUMENTS });
}
