import { html } from 'hono/html';
import { type AnomalyChapter, type AnomalySection, anomalyChapters } from '#audit/anomaly-sections.ts';
import { type Html, page, pageHeaders } from '../web/layout.ts';
import { dateTime } from './html.ts';
import type { AnomalyOutcome } from './live-anomalies.ts';

/** The headers of the page. It requires a password, so no cache may keep it. */
export const ANOMALIES_PAGE_HEADERS = { ...pageHeaders(), 'Cache-Control': 'no-store' };

/** Returns the page of the anomaly report. It does not reload: each report reads all votes. */
export function anomaliesPage(outcome: AnomalyOutcome): string {
  return String(
    page({
      title: 'How votes came in',
      layout: 'wide',
      main: html`
<h1>How votes came in</h1>
<p class="lede">Numbers without a verdict: what is unusual may be innocent. They come from what Turnout stores anyway; nothing about a person is collected for them.</p>
<nav aria-label="Dashboard"><a href="/">Audit</a></nav>
${body(outcome)}`,
    }),
  );
}

function body(outcome: AnomalyOutcome): Html {
  if ('report' in outcome) {
    const { report } = outcome;
    return html`<p class="muted">As of ${dateTime(new Date(report.asOf).toISOString())}.</p>
${anomalyChapters(report).map((chapter, i) => chapterHtml(chapter, i))}`;
  }
  const why =
    outcome.fault === 'too slow'
      ? 'There are too many votes to read within the time of a page'
      : `Postgres is unavailable (${outcome.reason})`;
  return html`<p class="notice error" role="alert">${why}. The command <code>npm run audit -- --anomalies</code> has an hour; with <code>--poll POLL</code> it reads one poll.</p>`;
}

function chapterHtml({ title, sections }: AnomalyChapter, chapter: number): Html {
  const id = `chapter-${chapter}`;
  return html`<h2 id="${id}">${title}</h2>
${sections.map((section, i) => sectionHtml(section, id, `section-${chapter}-${i}`))}`;
}

function sectionHtml(
  { title, facts, unusual, innocent, heading, rows }: AnomalySection,
  chapterId: string,
  id: string,
): Html {
  return html`<section class="card" aria-labelledby="${chapterId} ${id}">
<h3 id="${id}">${title}</h3>
<p>${facts}</p>
${unusual === undefined ? '' : html`<p class="muted">Unusual: ${unusual}</p>`}
${innocent === undefined ? '' : html`<p class="muted">Innocent: ${innocent}</p>`}
${rows.length === 0 ? '' : table(id, heading, rows)}
</section>`;
}

function table(id: string, [first, ...others]: readonly string[], rows: AnomalySection['rows']): Html {
  return html`<div class="scroll" id="${id}-table" tabindex="0" role="group" aria-labelledby="${id}"><table class="table">
<thead><tr><th scope="col">${first}</th>${others.map((title) => html`<th scope="col" class="number">${title}</th>`)}</tr></thead>
<tbody>${rows.map(
    ([name, ...cells]) => html`
<tr><th scope="row">${name}</th>${cells.map((cell) => html`<td class="number">${cell}</td>`)}</tr>`,
  )}</tbody>
</table></div>`;
}
