import { html } from 'hono/html';
import type { PollResult } from '#db/results.ts';
import { type Html, inLanguage, page, pageHeaders } from '../web/layout.ts';
import { accentStyle } from '../web/style.ts';
import { UPDATE_SCRIPT } from '../web/update.ts';
import { curveCard } from './curve.ts';
import type { Snapshot } from './feed.ts';
import { isShown, type ResultView, resultView } from './view.ts';

/**
 * Shared caches may keep a result for a second, the interval at which results are read, serve it while they fetch the next one,
 * and keep it for a minute of errors: `asOf` shows its age.
 */
export const RESULTS_CACHE_CONTROL = 'public, max-age=1, stale-while-revalidate=5, stale-if-error=60';

/** Reload interval of the page without scripts. */
export const REFRESH_SECONDS = 5;

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
export const RESULTS_SCRIPT = `
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

export interface RenderedPage {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Returns the page of a poll of a snapshot, or of all that are not hidden. A page of one poll has its colours. */
export function resultsPage(snapshot: Snapshot, poll?: PollResult): RenderedPage {
  const polls = poll ? [poll] : snapshot.results.polls.filter(({ isHidden }) => !isHidden);
  const only = polls.length === 1 ? polls[0] : undefined;
  const colours = only?.presentation.colours;
  const style = colours && accentStyle(colours);
  // Relative, because the app may be mounted below a path.
  const base = poll ? '' : 'polls/';
  const main = html`
<h1>Results</h1>
<p class="lede">As of ${time(snapshot.asOf)}.${polls.every(isShown) ? ` ${ledgerLine(snapshot)}${paceSentence(snapshot)}` : ''}</p>
<p class="notice error" id="offline" role="alert" hidden>No connection. These are the last known results; retrying.</p>
${
  polls.length === 0
    ? html`<p class="notice">There is no poll yet.</p>`
    : polls.map((result) =>
        isShown(result)
          ? pollCard(resultView(result, snapshot), { language: languageOf(result), base })
          : embargoCard(result),
      )
}${polls.every(isShown) ? curveCard(snapshot.history ?? []) : ''}`;
  const body = String(
    page({
      title: only ? `${only.question} Results` : 'Results',
      main,
      style,
      footer: html`<p>Each voter counts once, with their last vote. Results are provisional until the poll has closed and every accepted vote is counted; final results never change.</p>
<p class="hidden" id="spoken" role="status"></p>`,
      script: RESULTS_SCRIPT,
      refreshSeconds: REFRESH_SECONDS,
    }),
  );
  return { headers: { ...pageHeaders(RESULTS_SCRIPT, style), 'Cache-Control': RESULTS_CACHE_CONTROL }, body };
}

function ledgerLine({ results }: Snapshot): string {
  const { accepted, committed } = results.ledger;
  if (accepted === 0) return 'No vote has been accepted yet.';
  if (accepted === 1) return `The one accepted vote is ${committed === 1 ? '' : 'not yet '}processed.`;
  if (accepted === committed) return `All ${NUMBER.format(accepted)} accepted votes are processed.`;
  return `${NUMBER.format(committed)} of ${NUMBER.format(accepted)} accepted votes are processed.`;
}

/** Returns the attributes of the poll's texts; none in English, the language of the page. */
export function languageOf({ presentation: { lang } }: PollResult): Html | '' {
  return lang === undefined ? '' : inLanguage(lang);
}

/** Returns how many votes a second arrived lately. An embargo hides it, as it hides all counts. */
export function paceSentence({ pace = null }: Snapshot): string {
  if (pace === null) return '';
  if (pace > 0 && pace < 1) return ' Lately, less than one vote a second.';
  return ` Lately, ${counted(Math.round(pace), 'vote')} a second.`;
}

function embargoCard(result: PollResult): Html {
  const { poll, question } = result;
  return html`
<section class="card" aria-labelledby="${poll}">
<header><h2 id="${poll}"${languageOf(result)}>${question}</h2><span class="badge">Embargoed</span></header>
<p class="notice">The result is shown once it is final.</p>
</section>`;
}

interface CardParts {
  readonly language: Html | '';
  /** What precedes the id of a poll in addresses. */
  readonly base: string;
}

function pollCard(view: ResultView, { language, base }: CardParts): Html {
  const { poll, question, total } = view;
  const path = `${base}${encodeURIComponent(poll)}`;
  return html`
<section class="card" aria-labelledby="${poll}">
<header><h2 id="${poll}"${language}>${question}</h2>${statusBadge(view)}</header>
${choiceRows(view, language)}${evidence(view)}
<footer><span>${counted(total, 'voter')}</span><a href="${path}/wall" aria-label="${question} Results on a large screen">Large screen</a><a href="${path}/results.csv" aria-label="${question} Results as CSV">CSV</a></footer>
</section>`;
}

export function statusBadge({ status }: ResultView): Html {
  return status === 'final'
    ? html`<span class="badge good">Final</span>`
    : html`<span class="badge">Provisional</span>`;
}

/** Returns the bars of a poll. @param language attributes of the labels */
export function choiceRows({ choices, total }: ResultView, language: Html | ''): Html {
  const most = Math.max(...choices.map(({ votes }) => votes));
  return html`<ul class="results">${choices.map((choice) =>
    choiceRow(choice, total, { language, isLeading: choice.votes === most && most > 0 }),
  )}</ul>`;
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

function choiceRow(
  { label, votes }: ResultView['choices'][number],
  total: number,
  { language, isLeading }: { readonly language: Html | ''; readonly isLeading: boolean },
): Html {
  const share = total === 0 ? 0 : votes / total;
  return html`
<li class="${isLeading ? 'result leading' : 'result'}"><span class="label"${language}>${label}</span> <span class="share">${SHARE.format(share)}</span>
<svg class="bar" aria-hidden="true"><rect width="${(share * 100).toFixed(2)}%"/></svg>
<span class="votes">${counted(votes, 'vote')}</span></li>`;
}

export function counted(count: number, noun: string): string {
  return `${NUMBER.format(count)} ${noun}${count === 1 ? '' : 's'}`;
}

function time(milliseconds: number): Html {
  const iso = new Date(milliseconds).toISOString();
  return html`<time datetime="${iso}">${iso.slice(11, 19)} UTC</time>`;
}
