import { type Browser, chromium } from 'playwright-core';
import { findProgram } from '#dev/path.mjs';

/** Chromium must look nothing up but the pages of the test. */
const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** Where Debian's Chromium is; `undefined` when there is none, and tests with a browser must be skipped. */
export const CHROMIUM = findProgram('chromium');

/** Starts a real browser without a window. */
export async function startBrowser(): Promise<Browser> {
  if (!CHROMIUM) throw new Error('chromium is not installed');
  return chromium.launch({ executablePath: CHROMIUM, args: ARGUMENTS });
}
