import { createHash } from 'node:crypto';
import { html, raw } from 'hono/html';
import type { HtmlEscapedString } from 'hono/utils/html';
import { STYLE } from './style.ts';

/** A piece of a page whose text has been escaped. What hono's `html` gives. */
export type Html = HtmlEscapedString | Promise<HtmlEscapedString>;

/** What a page is made of. `title` is escaped here; the pieces must be made with hono's `html`. */
export interface PageParts {
  readonly title: string;
  readonly main: Html;
  /** Muted, below the rest. */
  readonly footer?: Html;
  /** Runs after the page has been read. Pass the same text to `pageHeaders`, which lets it, and nothing else, run. */
  readonly script?: string;
  /** How often the page loads itself again where scripts do not run. */
  readonly refreshSeconds?: number;
  /** For tables with many columns. */
  readonly wide?: boolean;
}

/** A ballot with a tick, as a data URL: a million visitors shall not each ask for /favicon.ico as well. */
const ICON = `data:image/svg+xml,${encodeURIComponent(
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="#4a3bc4"/>' +
    '<path d="m8 17 6 6 11-13" fill="none" stroke="#fff" stroke-width="4" stroke-linecap="round" stroke-linejoin="round"/></svg>',
)}`;

/** A whole page. Send it with `pageHeaders`, or the browser runs neither its style nor its script. */
export function page({ title, main, footer, script, refreshSeconds, wide = false }: PageParts): Html {
  return html`<!doctype html>
<html lang="en"${wide ? raw(' class="wide"') : ''}>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="theme-color" content="#f7f5f0" media="(prefers-color-scheme: light)">
<meta name="theme-color" content="#121119" media="(prefers-color-scheme: dark)">
<title>${title}</title>
<link rel="icon" href="${ICON}">
<style>${raw(STYLE)}</style>
${refreshSeconds === undefined ? '' : html`<noscript><meta http-equiv="refresh" content="${refreshSeconds}"></noscript>`}
</head>
<body>
<main>
${main}
</main>
${footer === undefined ? '' : html`<footer class="footer">${footer}</footer>`}
${script === undefined ? '' : html`<script>${raw(script)}</script>`}
</body>
</html>
`;
}

/**
 * The headers that belong to a page, except for `Cache-Control`, which its handler knows.
 *
 * @param script the page's script, if it has one
 */
export function pageHeaders(script?: string): Readonly<Record<string, string>> {
  return {
    'Content-Type': 'text/html; charset=UTF-8',
    'Content-Security-Policy': [
      "default-src 'none'",
      `style-src ${hashOf(STYLE)}`,
      `script-src ${script === undefined ? "'none'" : hashOf(script)}`,
      'img-src data:',
      "connect-src 'self'",
      "form-action 'self'",
      "base-uri 'none'",
      "frame-ancestors 'none'",
    ].join('; '),
    ...SAFE_HEADERS,
  };
}

/** What every answer carries, pages or not. */
export const SAFE_HEADERS: Readonly<Record<string, string>> = {
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'same-origin',
  'X-Frame-Options': 'DENY',
  'Cross-Origin-Opener-Policy': 'same-origin',
};

/** The headers of a page without a script. */
export const PAGE_HEADERS = pageHeaders();

function hashOf(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}
