import { html } from 'hono/html';
import { nameJobs, OUTCOME_WORDS, OUTCOMES, writtenOffJobs } from '#audit/reconcile.ts';
import { type Html, page, pageHeaders } from '../web/layout.ts';
import { UPDATE_SCRIPT } from '../web/update.ts';
import { adviceOf, MEMORY_SHARE_WARNED } from './advice.ts';
import { alarmCell, card, NUMBER, numberCells, numberHeads, time } from './html.ts';
import { enrolledCard, foreignCard } from './nodes-cards.ts';
import { type PollView, pollCards } from './polls-cards.ts';
import type { AuditView } from './view.ts';

const REFRESH_SECONDS = 5;

const MEBIBYTE = 2 ** 20;

/** Lost jobs, and jobs written off, that the page lists; the JSON lists more. */
const JOBS_NAMED_MAX = 20;

type Outcome = (typeof OUTCOMES)[number];

const MEANINGS: Readonly<Record<Outcome, string>> = {
  accepted: 'acknowledged with 202',
  counted: 'first vote of a voter',
  changed: 'replaced an older vote',
  superseded: 'older than the counted vote',
  rejected: 'stored, cannot be counted',
  pending: 'not yet in Postgres',
  failed: 'in failed jobs',
  writtenOff: 'declared lost by an operator',
  lost: 'in no queue or receipt',
};

/** Outcomes that need an operator. */
const BAD: ReadonlySet<Outcome> = new Set(['failed', 'lost']);

/** Fetches the page again and updates what differs; the browser attaches the password. */
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

/** The headers of the page. It requires a password, so no cache may keep it. */
export const DASHBOARD_PAGE_HEADERS = { ...pageHeaders(SCRIPT), 'Cache-Control': 'no-store' };

/** Returns the operators' page. */
export function dashboardPage(view: AuditView, polls: readonly PollView[]): string {
  return String(
    page({
      title: view.total.lost > 0 ? `${NUMBER.format(view.total.lost)} votes lost` : 'Turnout audit',
      layout: 'wide',
      main: html`
<h1>Audit</h1>
<p class="lede">As of ${time(view.asOf)}. ${verdict(view)}</p>
<nav aria-label="Dashboard"><a id="to-queues" href="/queues">Queues</a><a id="to-json" href="/ledger">Audit as JSON</a><a id="to-anomalies" href="/anomalies">How votes came in</a></nav>
<p class="notice error" id="offline" role="alert" hidden>No connection. These are the last known numbers; retrying.</p>
${view.postgres.reachable ? '' : postgresNotice(view)}
${adviceList(view)}
${figures(view)}
${pollCards(polls)}
${foreignCard(view)}
${lostJobsCard(view)}
${unexplainedCard(view)}
${writtenOffCard(view)}
${enrolledCard(view)}
${queuesCard(view)}
${nodesCard(view)}
${sourcesCard(view)}`,
      script: SCRIPT,
      refreshSeconds: REFRESH_SECONDS,
    }),
  );
}

function verdict({ total, sources, postgres, reconciledAt }: AuditView): string {
  if (reconciledAt === null) return 'No audit has completed yet.';
  if (total.lost > 0)
    return `${NUMBER.format(total.lost)} accepted votes are lost: in no queue and in no receipt.`;
  if (sources.some(({ unexplained }) => unexplained !== 0)) return 'Receipts and ledgers differ in votes.';
  if (!postgres.reachable) return 'Postgres is down; these numbers are from its last response.';
  if (total.failed > 0)
    return 'No vote is lost. Some jobs have failed; retry them in the queues, or write them off on the page of their node.';
  if (total.pending > 0) return 'No vote is lost; some are waiting to be committed.';
  if (total.writtenOff > 0) return 'Every accepted vote is accounted for, except those written off.';
  return 'Every accepted vote is accounted for.';
}

/** Says in words what is wrong and what to do. */
function adviceList(view: AuditView): Html | '' {
  const advice = adviceOf(view);
  if (advice.length === 0) return '';
  return html`<section class="card" aria-labelledby="to-do">
<h2 id="to-do">What to do</h2>
<ul>${advice.map(
    ({ fault, action }) => html`
<li><strong>${fault}</strong> ${action}</li>`,
  )}
</ul>
</section>`;
}

function postgresNotice({ postgres, reconciledAt }: AuditView): Html {
  return html`<p class="notice error" role="alert">Postgres is unavailable (${postgres.reason}). ${
    reconciledAt === null ? 'No audit has completed yet.' : html`Last complete audit: ${time(reconciledAt)}.`
  } Votes are still captured.</p>`;
}

function figures({ total }: AuditView): Html {
  return html`<dl class="figures">${OUTCOMES.map(
    (outcome) => html`
<div class="${figureClass(outcome, total[outcome])}"><dt>${titleOf(outcome)}</dt><dd>${NUMBER.format(total[outcome])}</dd><dd class="meaning">${MEANINGS[outcome]}</dd></div>`,
  )}
</dl>`;
}

function figureClass(outcome: Outcome, votes: number): string {
  if (BAD.has(outcome) && votes > 0) return 'figure bad';
  return outcome === 'lost' ? 'figure good' : 'figure';
}

/** Lists the keys of lost jobs, for which an operator searches logs, backups and failed jobs. */
function lostJobsCard({ sources }: AuditView): Html | '' {
  const { keys, more } = nameJobs(sources, 'lost', JOBS_NAMED_MAX);
  if (keys.length + more === 0) return '';
  return html`<section class="card" aria-labelledby="lost-jobs">
<h2 id="lost-jobs">Lost jobs</h2>
<p class="muted">their numbers are in the ledger, but they are neither in a queue nor in Postgres; results wait for them until they are written off on the page of their node</p>
<ul>${keys.map(
    (key) => html`
<li><code>${key}</code></li>`,
  )}${moreItems(more)}
</ul>
</section>`;
}

/** Lists the jobs that operators wrote off. */
function writtenOffCard({ sources }: AuditView): Html | '' {
  const jobs = writtenOffJobs(sources);
  if (jobs.length === 0) return '';
  return html`<section class="card" aria-labelledby="written-off-jobs">
<h2 id="written-off-jobs">Jobs written off</h2>
<p class="muted">declared lost by an operator; the results of polls that they may have had votes for name them</p>
<ul>${jobs.slice(0, JOBS_NAMED_MAX).map(
    ({ key, reason }) => html`
<li><code>${key}</code> ${reason}</li>`,
  )}${moreItems(jobs.length - JOBS_NAMED_MAX)}
</ul>
</section>`;
}

function moreItems(more: number): Html | '' {
  return more > 0
    ? html`
<li>and ${NUMBER.format(more)} more</li>`
    : '';
}

/** Lists the sources whose receipts have other votes than their ledger, although no job is missing. */
function unexplainedCard({ sources }: AuditView): Html | '' {
  const found = sources.filter(({ unexplained }) => unexplained !== 0);
  if (found.length === 0) return '';
  return card(
    'unexplained',
    'Unexplained votes',
    'no job is missing, but ledger and receipts of these sources differ in votes',
    html`<thead><tr><th scope="col">Source</th>${numberHeads(['Only in the ledger', 'Only in receipts'])}</tr></thead>
<tbody>${found.map(
      ({ source, unexplained }) => html`
<tr><th scope="row">${source}</th>${alarmCell(Math.max(0, unexplained))}${alarmCell(Math.max(0, -unexplained))}</tr>`,
    )}</tbody>`,
  );
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
  const { name, address, reachable, reason, waiting, active, delayed, failed, memory, appendOnlyFile } =
    queue;
  const head = html`<th scope="row">${name ?? address}${name === null ? '' : html`<small>${address}</small>`}</th>`;
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
    'accepted = counted + changed + superseded + rejected + pending + failed + written off + lost',
    html`<thead><tr><th scope="col">Node</th>${numberHeads(OUTCOMES.map(titleOf))}</tr></thead>
<tbody>${nodes.map(
      (row) => html`
<tr><th scope="row">${row.name}${absence(row)}</th>${outcomeCells(row)}</tr>`,
    )}</tbody>
<tfoot><tr><th scope="row">All</th>${outcomeCells(total)}</tr></tfoot>`,
  );
}

function sourcesCard({ sources }: AuditView): Html {
  return html`<details class="card"><summary id="sources">Votes by source: every process that ever captured votes (${NUMBER.format(
    sources.length,
  )})</summary>
<div class="scroll" id="sources-table" tabindex="0" role="group" aria-labelledby="sources"><table class="table">
<thead><tr><th scope="col">Source</th>${numberHeads(OUTCOMES.map(titleOf))}${numberHeads(['Jobs', 'Lost jobs'])}</tr></thead>
<tbody>${sources.map(
    (row) => html`
<tr><th scope="row">${row.source}${row.reachable || row.jobs.pending === 0 ? '' : UNREACHABLE}</th>${outcomeCells(row)}${numberCells([row.jobs.accepted])}${alarmCell(row.jobs.lost)}</tr>`,
  )}</tbody>
</table></div></details>`;
}

function absence({ state, reachable, pending }: AuditView['nodes'][number]): Html | '' {
  if (state === 'retired') return html`<small>retired</small>`;
  return reachable || pending === 0 ? '' : UNREACHABLE;
}

const UNREACHABLE = html`<small>node unreachable: missing jobs may be on it</small>`;

function outcomeCells(row: AuditView['total']): Html {
  return html`${OUTCOMES.map((outcome) => (BAD.has(outcome) ? alarmCell(row[outcome]) : numberCells([row[outcome]])))}`;
}

function megabytes({ used, max }: { used: number; max: number }): string {
  const megas = (bytes: number): string => NUMBER.format(Math.round(bytes / MEBIBYTE));
  return max === 0 ? `${megas(used)} MiB, no limit` : `${megas(used)} of ${megas(max)} MiB`;
}

function titleOf(outcome: Outcome): string {
  const words = OUTCOME_WORDS[outcome];
  return words.slice(0, 1).toUpperCase() + words.slice(1);
}
