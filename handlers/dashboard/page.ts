import { html } from 'hono/html';
import { nameLostJobs, OUTCOMES } from '#audit/reconcile.ts';
import { type Html, page, pageHeaders } from '../web/layout.ts';
import { UPDATE_SCRIPT } from '../web/update.ts';
import type { AuditView } from './view.ts';

const REFRESH_SECONDS = 5;

const NUMBER = new Intl.NumberFormat('en-US');
const MEBIBYTE = 2 ** 20;

/** Lost jobs that the page names; the JSON names more. */
const LOST_JOBS_NAMED_MAX = 20;

/** From here on a node's memory is worth a look; handlers refuse votes at 90 %. */
const MEMORY_SHARE_WARNED = 0.75;

type Fate = (typeof OUTCOMES)[number];

const MEANINGS: Readonly<Record<Fate, string>> = {
  accepted: 'answered 202',
  counted: 'first votes',
  changed: 'replaced an older vote',
  superseded: 'older than the vote that counts',
  rejected: 'kept, but not countable',
  pending: 'not in Postgres yet',
  failed: 'in a failed job',
  lost: 'nowhere',
};

/** What must not be. */
const BAD: ReadonlySet<Fate> = new Set(['failed', 'lost']);

/** Fetches this very page again and changes what differs; the password goes along by itself. */
const SCRIPT = `${UPDATE_SCRIPT}async function refresh() {
  if (document.hidden) return;
  try {
    const response = await fetch(location.href, { signal: AbortSignal.timeout(15000) });
    if (!response.ok) throw new Error(response.status);
    const fresh = new DOMParser().parseFromString(await response.text(), 'text/html');
    const open = [...document.querySelectorAll('details')].map((details) => details.open);
    fresh.querySelectorAll('details').forEach((details, i) => { details.open = open[i] ?? details.open; });
    const focused = document.activeElement?.id;
    update(document.querySelector('main'), fresh.querySelector('main'));
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  } catch {
    document.getElementById('offline').hidden = false;
  }
}
setInterval(refresh, ${REFRESH_SECONDS * 1_000 - 2_000});
document.addEventListener('visibilitychange', refresh);
`;

/** The headers of the page. What it shows is for those who have said who they are, so no cache may keep it. */
export const DASHBOARD_PAGE_HEADERS = { ...pageHeaders(SCRIPT), 'Cache-Control': 'no-store' };

/** The ledger as a page. */
export function dashboardPage(view: AuditView): string {
  return String(
    page({
      title: view.total.lost > 0 ? `${NUMBER.format(view.total.lost)} votes lost` : 'Turnout ledger',
      wide: true,
      main: html`
<h1>Ledger</h1>
<p class="lede">As of ${time(view.asOf)}. ${verdict(view)}</p>
<nav aria-label="Dashboard"><a id="to-queues" href="/queues">Jobs in the queues</a><a id="to-json" href="/ledger">This page as JSON</a></nav>
<p class="notice error" id="offline" role="alert" hidden>No connection. This is the last we got; trying again.</p>
${view.postgres.reachable ? '' : postgresNotice(view)}
${figures(view)}
${lostJobsCard(view)}
${queuesCard(view)}
${nodesCard(view)}
${sourcesCard(view)}`,
      script: SCRIPT,
      refreshSeconds: REFRESH_SECONDS,
    }),
  );
}

function verdict({ total, postgres, settledAt }: AuditView): string {
  if (settledAt === null) return 'Nothing can be accounted for yet.';
  if (total.lost > 0) return `${NUMBER.format(total.lost)} accepted votes are nowhere to be found.`;
  if (!postgres.reachable) return 'What follows was true when Postgres last answered.';
  if (total.failed > 0) return 'Nothing is lost, but there are failed jobs to look at.';
  if (total.pending > 0) return 'Nothing is lost; some votes are on their way to Postgres.';
  return 'Every accepted vote is accounted for.';
}

function postgresNotice({ postgres, settledAt }: AuditView): Html {
  return html`<p class="notice error" role="alert">Postgres cannot be asked (${postgres.reason}). ${
    settledAt === null ? 'It never could.' : html`It last could at ${time(settledAt)}.`
  } Votes are captured all the same.</p>`;
}

function figures({ total }: AuditView): Html {
  return html`<dl class="figures">${OUTCOMES.map(
    (fate) => html`
<div class="${figureClass(fate, total[fate])}"><dt>${capitalised(fate)}</dt><dd>${NUMBER.format(total[fate])}</dd><dd class="meaning">${MEANINGS[fate]}</dd></div>`,
  )}
</dl>`;
}

function figureClass(fate: Fate, votes: number): string {
  if (BAD.has(fate) && votes > 0) return 'figure bad';
  return fate === 'lost' ? 'figure good' : 'figure';
}

/** By name, because an operator looks for each of them: in a log, in a backup, in the list of failed jobs. */
function lostJobsCard({ sources }: AuditView): Html | '' {
  const { keys, more } = nameLostJobs(sources, LOST_JOBS_NAMED_MAX);
  if (keys.length + more === 0) return '';
  return html`<section class="card" aria-labelledby="lost-jobs">
<h2 id="lost-jobs">Lost jobs</h2>
<p class="muted">their numbers are in the ledger, but they are neither in a queue nor in Postgres</p>
<ul>${keys.map(
    (key) => html`
<li><code>${key}</code></li>`,
  )}${
    more > 0
      ? html`
<li>and ${NUMBER.format(more)} more</li>`
      : ''
  }
</ul>
</section>`;
}

function queuesCard({ queues }: AuditView): Html {
  return card(
    'queues',
    'Queues',
    `${NUMBER.format(queues.length)} ${queues.length === 1 ? 'node' : 'nodes'}, in jobs`,
    html`<thead><tr><th scope="col">Node</th><th scope="col">State</th>${numberHeads(['Waiting', 'Active', 'Delayed', 'Failed', 'Memory'])}<th scope="col">Append-only file</th></tr></thead>
<tbody>${queues.map(queueRow)}</tbody>`,
  );
}

function queueRow(queue: AuditView['queues'][number]): Html {
  const { nodes, address, reachable, reason, waiting, active, delayed, failed, memory, appendOnlyFile } =
    queue;
  const head = html`<th scope="row">${nodes.length > 0 ? nodes.join(', ') : address}${
    nodes.length > 0 ? html`<small>${address}</small>` : ''
  }</th>`;
  if (!reachable) {
    return html`
<tr>${head}<td><span class="badge bad">Down</span></td><td colspan="6" class="muted">${reason}</td></tr>`;
  }
  const isFull = memory.max > 0 && memory.used > memory.max * MEMORY_SHARE_WARNED;
  return html`
<tr>${head}<td><span class="badge good">Up</span></td>${numberCells([waiting, active, delayed])}${alarmCell(failed)}<td class="${
    isFull ? 'number alarm' : 'number'
  }">${megabytes(memory)}</td><td>${
    appendOnlyFile === 'on'
      ? 'on'
      : html`<span class="alarm">${appendOnlyFile === 'off' ? 'off: votes are not on disk' : appendOnlyFile}</span>`
  }</td></tr>`;
}

function nodesCard({ nodes, total }: AuditView): Html {
  return card(
    'nodes',
    'Votes by node',
    'accepted = counted + changed + superseded + rejected + pending + failed + lost',
    html`<thead><tr><th scope="col">Node</th>${numberHeads(OUTCOMES.map(capitalised))}</tr></thead>
<tbody>${nodes.map(
      (row) => html`
<tr><th scope="row">${row.node}${absence(row)}</th>${fateCells(row)}</tr>`,
    )}</tbody>
<tfoot><tr><th scope="row">All</th>${fateCells(total)}</tr></tfoot>`,
  );
}

function sourcesCard({ sources }: AuditView): Html {
  return html`<details class="card"><summary id="sources">Votes by source: every process that ever took votes (${NUMBER.format(
    sources.length,
  )})</summary>
<div class="scroll" id="sources-table" tabindex="0" role="region" aria-labelledby="sources"><table class="table">
<thead><tr><th scope="col">Source</th>${numberHeads(OUTCOMES.map(capitalised))}${numberHeads(['Jobs', 'Lost jobs'])}</tr></thead>
<tbody>${sources.map(
    (row) => html`
<tr><th scope="row">${row.source}${row.reachable ? '' : UNREACHABLE}</th>${fateCells(row)}${numberCells([row.jobs.accepted])}${alarmCell(row.jobs.lost)}</tr>`,
  )}</tbody>
</table></div></details>`;
}

/** Of a node that does not answer: whether that matters, and what can be done about it. */
function absence({ node, reachable, retired, pending }: AuditView['nodes'][number]): Html | '' {
  if (retired) return html`<small>retired</small>`;
  if (reachable) return '';
  if (pending > 0) return UNREACHABLE;
  return html`<small>node unreachable; results wait for it</small>
<form method="post" action="/nodes/${encodeURIComponent(node)}/retire"><button id="retire-${node}" aria-label="It will not come back: ${node}">It will not come back</button></form>`;
}

const UNREACHABLE = html`<small>node unreachable: what is missing may be on it</small>`;

function card(id: string, title: string, note: string, rows: Html): Html {
  return html`<section class="card" aria-labelledby="${id}">
<h2 id="${id}">${title}</h2>
<p class="muted">${note}</p>
<div class="scroll" id="${id}-table" tabindex="0" role="region" aria-labelledby="${id}"><table class="table">${rows}</table></div>
</section>`;
}

function fateCells(row: AuditView['total']): Html {
  return html`${OUTCOMES.map((fate) => (BAD.has(fate) ? alarmCell(row[fate]) : numberCells([row[fate]])))}`;
}

function numberHeads(titles: readonly string[]): Html {
  return html`${titles.map((title) => html`<th scope="col" class="number">${title}</th>`)}`;
}

function numberCells(numbers: readonly number[]): Html {
  return html`${numbers.map((number) => html`<td class="number">${NUMBER.format(number)}</td>`)}`;
}

function alarmCell(number: number): Html {
  return html`<td class="${number > 0 ? 'number alarm' : 'number'}">${NUMBER.format(number)}</td>`;
}

function megabytes({ used, max }: { used: number; max: number }): string {
  const megas = (bytes: number): string => NUMBER.format(Math.round(bytes / MEBIBYTE));
  return max === 0 ? `${megas(used)} MiB, no limit` : `${megas(used)} of ${megas(max)} MiB`;
}

function capitalised(word: string): string {
  return word.slice(0, 1).toUpperCase() + word.slice(1);
}

function time(iso: string): Html {
  return html`<time datetime="${iso}">${iso.slice(11, 19)} UTC</time>`;
}
