import { createHash } from 'node:crypto';
import { html } from 'hono/html';
import { describe, expect, test } from 'vitest';
import { page, pageHeaders } from '#handlers/web/layout.ts';

const SCRIPT = 'document.title += "&<>";';

const hashOf = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
const policyOf = (headers: Readonly<Record<string, string>>): string[] =>
  (headers['Content-Security-Policy'] ?? '').split('; ');
const textBetween = (page: string, from: string, to: string): string =>
  page.slice(page.indexOf(from) + from.length, page.indexOf(to));

describe('a page', () => {
  test('escapes its title and keeps the escaped parts unchanged', () => {
    const text = String(page({ title: '</title><script>', main: html`<p>${'<b>'}</p>` }));
    expect(text).toContain('<title>&lt;/title&gt;&lt;script&gt;</title>');
    expect(text).toContain('<p>&lt;b&gt;</p>');
    expect(text).not.toContain('<script>');
  });

  test('allows its own style and script only', () => {
    const text = String(page({ title: 'T', main: html``, script: SCRIPT }));
    const policy = policyOf(pageHeaders(SCRIPT));
    expect(policy).toContain(`style-src ${hashOf(textBetween(text, '<style>', '</style>'))}`);
    expect(policy).toContain(`script-src ${hashOf(textBetween(text, '<script>', '</script>'))}`);
    expect(policy).toContain("default-src 'none'");
    expect(policyOf(pageHeaders())).toContain("script-src 'none'");
  });

  test('reloads itself only in a browser without script', () => {
    const text = String(page({ title: 'T', main: html``, refreshSeconds: 5 }));
    expect(text).toContain('<noscript><meta http-equiv="refresh" content="5"></noscript>');
    expect(String(page({ title: 'T', main: html`` }))).not.toContain('refresh');
  });

  test('cannot be framed, sniffed or opened by another window', () => {
    expect(pageHeaders()).toMatchObject({
      'X-Content-Type-Options': 'nosniff',
      'X-Frame-Options': 'DENY',
      'Referrer-Policy': 'same-origin',
      'Cross-Origin-Opener-Policy': 'same-origin',
    });
    expect(policyOf(pageHeaders())).toContain("frame-ancestors 'none'");
  });
});
