import { createHash } from 'node:crypto';
import { html, raw } from 'hono/html';
import type { HtmlEscapedString } from 'hono/utils/html';
import { STYLE } from './style.ts';

/** An escaped piece of a page, as hono's `html` returns it. */
export type Html = HtmlEscapedString | Promise<HtmlEscapedString>;

/** The parts of a page. `page` escapes `title`; the others must come from hono's `html`. */
export interface PageParts {
  readonly title: string;
  readonly main: Html;
  /** Language of the page, a BCP 47 tag; English by default. */
  readonly lang?: string | undefined;
  /** Rules after the stylesheet. The Content-Security-Policy allows only those passed to `pageHeaders`. */
  readonly style?: string | undefined;
  /** Muted text at the bottom. */
  readonly footer?: Html;
  /** Runs after the page is parsed. The Content-Security-Policy allows only the script passed to `pageHeaders`. */
  readonly script?: string;
  /** Content-Security-Policy sources of another site's widget on the page, for `pageHeaders`. */
  readonly widget?: readonly string[];
  /** The path to which a browser without script goes on at once. */
  readonly withoutScript?: string;
  /** How often the page reloads in a browser without script. */
  readonly refreshSeconds?: number;
  /** Classes of the page: `wide` for tables with many columns; others have their rules in `style`. */
  readonly layout?: string;
}

/** A check mark, as a data URL to save each visitor the request for /favicon.ico. */
const ICON = `data:image/svg+xml,${encodeURIComponent(
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="#4a3bc4"/>' +
    '<path d="m8 17 6 6 11-13" fill="none" stroke="#fff" stroke-width="4" stroke-linecap="round" stroke-linejoin="round"/></svg>',
)}`;

/** Returns a whole page. Without the headers of `pageHeaders` the browser blocks its style and script. */
export function page({
  title,
  main,
  lang,
  style = '',
  footer,
  script,
  withoutScript,
  refreshSeconds,
  layout,
}: PageParts): Html {
  return html`<!doctype html>
<html${inLanguage(lang)}${layout === undefined ? '' : html` class="${layout}"`}>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="theme-color" content="#f7f5f0" media="(prefers-color-scheme: light)">
<meta name="theme-color" content="#121119" media="(prefers-color-scheme: dark)">
<title>${title}</title>
<link rel="icon" href="${ICON}">
<style>${raw(STYLE + style)}</style>
${withoutScript === undefined ? '' : html`<noscript><meta http-equiv="refresh" content="0; url=${withoutScript}"></noscript>`}
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

/** Returns the attributes of an element whose text is in a language: a BCP 47 tag, English by default. */
export function inLanguage(lang = 'en'): Html {
  return html` lang="${lang}" dir="${new Intl.Locale(lang).getTextInfo().direction ?? 'auto'}"`;
}

/**
 * Returns the headers of a page, except `Cache-Control`, which depends on the page.
 *
 * @param script the page's script, if any
 * @param style the page's own rules, if any
 * @param widget Content-Security-Policy sources of another site's widget on the page, if any
 */
export function pageHeaders(
  script?: string,
  style = '',
  widget: readonly string[] = [],
): Readonly<Record<string, string>> {
  const more = widget.map((source) => ` ${source}`).join('');
  return {
    'Content-Type': 'text/html; charset=UTF-8',
    'Content-Security-Policy': [
      "default-src 'none'",
      `style-src ${hashOf(STYLE + style)}${more}`,
      `script-src ${script === undefined ? "'none'" : hashOf(script)}${more}`,
      "img-src 'self' data:",
      `connect-src 'self'${more}`,
      ...(more ? [`frame-src${more}`] : []),
      "form-action 'self'",
      "base-uri 'none'",
      "frame-ancestors 'none'",
    ].join('; '),
    ...SAFE_HEADERS,
  };
}

/** Security headers of pages, problems and results. */
export const SAFE_HEADERS: Readonly<Record<string, string>> = {
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'same-origin',
  'X-Frame-Options': 'DENY',
  'Cross-Origin-Opener-Policy': 'same-origin',
};

function hashOf(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}
