import { html } from 'hono/html';
import { type Html, page, pageHeaders } from '../web/layout.ts';
import { UPDATE_SCRIPT } from '../web/update.ts';
import type { Snapshot } from './feed.ts';
import { type ResultView, resultView } from './view.ts';

/** Reload interval of the page without scripts. */
const REFRESH_SECONDS = 5;

/** Jobs written off that the page names per reason; the JSON names all. */
const JOBS_NAMED_MAX = 10;

const NUMBER = new Intl.NumberFormat('en-US');
const SHARE = new Intl.NumberFormat('en-US', {
  style: 'percent',
  minimumFractionDigits: 1,
  maximumFractionDigits: 1,
});

/**
 * Fetches the page again, through the cache that all viewers share, and updates what differs: the page is the same with and
 * without scripts, and any number of polls costs one request. Focus and scrolling stay. Screen readers announce changes at
 * most every 20 s.
 */
const SCRIPT = `
const PERIOD_MS = 2000, PERIOD_MS_MAX = 30000, SPEAK_INTERVAL_MS = 20000;
let failures = 0, timer, spoken = summary(), spokenAt = Date.now();
function summary() {
  return [...document.querySelectorAll('.card')].map((card) => card.querySelector('h2').textContent + ' ' +
    [...card.querySelectorAll('.result')].map((result) => result.querySelector('.label').textContent + ' ' +
      result.querySelector('.share').textContent).join(', ')).join('. ');
}
function speak() {
  const text = summary();
  if (text === spoken || Date.now() - spokenAt < SPEAK_INTERVAL_MS) return;
  document.getElementById('spoken').textContent = spoken = text;
  spokenAt = Date.now();
}
${UPDATE_SCRIPT}
async function refresh() {
  if (document.hidden) return;
  try {
    const response = await fetch(location.href, { signal: AbortSignal.timeout(10000) });
    if (!response.ok) throw new Error(response.status);
    const fresh = new DOMParser().parseFromString(await response.text(), 'text/html');
    update(document.querySelector('main'), fresh.querySelector('main'));
    failures = 0;
    speak();
  } catch {
    failures += 1;
    if (failures > 2) document.getElementById('offline').hidden = false;
  }
  plan();
}
function plan() {
  clearTimeout(timer);
  timer = setTimeout(refresh, Math.min(PERIOD_MS * 2 ** failures, PERIOD_MS_MAX) * (0.8 + 0.4 * Math.random()));
}
document.addEventListener('visibilitychange', refresh);
plan();
`;

/** The headers of the page. Shared caches may keep it for a second. */
export const RESULTS_PAGE_HEADERS = { ...pageHeaders(SCRIPT), 'Cache-Control': 'public, max-age=1' };

/** Returns the page with all polls of a snapshot. */
export function resultsPage(snapshot: Snapshot): string {
  const views = snapshot.results.polls.map((poll) => resultView(poll, snapshot));
  const { accepted, committed } = snapshot.results.ledger;
  const main = html`
<h1>Results</h1>
<p class="lede">As of ${time(snapshot.asOf)}. ${ledgerLine(accepted, committed)}</p>
<p class="notice error" id="offline" role="alert" hidden>No connection. These are the last known results; retrying.</p>
${views.length === 0 ? html`<p class="notice">There is no poll yet.</p>` : views.map(pollCard)}`;
  return String(
    page({
      title: views.length === 1 && views[0] ? `${views[0].question} Results` : 'Results',
      main,
      footer: html`<p>Each voter counts once, with their last vote. Results are provisional until the poll has closed and every accepted vote is counted; final results never change.</p>
<p class="hidden" id="spoken" role="status"></p>`,
      script: SCRIPT,
      refreshSeconds: REFRESH_SECONDS,
    }),
  );
}

function ledgerLine(accepted: number, committed: number): string {
  if (accepted === 0) return 'No vote has been accepted yet.';
  if (accepted === 1) return `The one accepted vote is ${committed === 1 ? '' : 'not yet '}processed.`;
  if (accepted === committed) return `All ${NUMBER.format(accepted)} accepted votes are processed.`;
  return `${NUMBER.format(committed)} of ${NUMBER.format(accepted)} accepted votes are processed.`;
}

function pollCard(view: ResultView): Html {
  const { poll, question, total, choices, status } = view;
  const most = Math.max(...choices.map(({ votes }) => votes));
  return html`
<section class="card" aria-labelledby="${poll}">
<header><h2 id="${poll}">${question}</h2>${
    status === 'final'
      ? html`<span class="badge good">Final</span>`
      : html`<span class="badge">Provisional</span>`
  }</header>
<ul class="results">${choices.map((choice) => choiceRow(choice, total, choice.votes === most && most > 0))}</ul>${evidence(view)}
<footer><span>${counted(total, 'voter')}</span><a href="polls/${encodeURIComponent(poll)}/results.csv" aria-label="${question} Results as CSV">Download CSV</a></footer>
</section>`;
}

/** States since when a result is final, and names the nodes and jobs that it lacks votes of. */
function evidence({ finalAt, writtenOff = [], writtenOffJobs = [] }: ResultView): Html | '' {
  if (finalAt === undefined) return '';
  return html`
<p class="muted">Final since <time datetime="${finalAt}">${finalAt.slice(0, 10)} ${finalAt.slice(11, 19)} UTC</time>.</p>${writtenOff.map(
    ({ name, reason }) => html`
<p class="notice">Without the uncounted votes of ${name}, a node that was written off: ${reason}</p>`,
  )}${writtenOffJobs.map(
    ({ name, reason, jobs }) => html`
<p class="notice">Without the votes in ${counted(jobs.length, 'job')} of ${name} written off (${named(jobs)}): ${reason}</p>`,
  )}`;
}

function named(jobs: readonly string[]): string {
  const more = jobs.length - JOBS_NAMED_MAX;
  return `${jobs.slice(0, JOBS_NAMED_MAX).join(', ')}${more > 0 ? ` and ${NUMBER.format(more)} more` : ''}`;
}

function choiceRow({ label, votes }: ResultView['choices'][number], total: number, isLeading: boolean): Html {
  const share = total === 0 ? 0 : votes / total;
  return html`
<li class="${isLeading ? 'result leading' : 'result'}"><span class="label">${label}</span> <span class="share">${SHARE.format(share)}</span>
<svg class="bar" aria-hidden="true"><rect width="${(share * 100).toFixed(2)}%"/></svg>
<span class="votes">${counted(votes, 'vote')}</span></li>`;
}

function counted(count: number, noun: string): string {
  return `${NUMBER.format(count)} ${noun}${count === 1 ? '' : 's'}`;
}

function time(milliseconds: number): Html {
  const iso = new Date(milliseconds).toISOString();
  return html`<time datetime="${iso}">${iso.slice(11, 19)} UTC</time>`;
}
