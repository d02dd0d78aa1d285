import { html } from 'hono/html';
import { JOBS_PER_WRITE_OFF_MAX } from '#db/write-off.ts';
import { type Html, page, pageHeaders } from '../web/layout.ts';
import { REASON_CHARACTERS_MAX } from './changes.ts';
import { dateTime, NUMBER } from './html.ts';
import { isChangeable, stateOf } from './nodes-cards.ts';
import type { NodeView } from './view.ts';

/** The headers of the page of a node. It requires a password, so no cache may keep it. */
export const NODE_PAGE_HEADERS = { ...pageHeaders(), 'Cache-Control': 'no-store' };

/** Rows of the field with keys of jobs. */
const ROWS_MAX = 10;

/**
 * Returns the page of a node, with forms to retire it, to write it off, or to write off jobs of it, if the user may. It does not reload, so that a reason can be
 * typed without script.
 *
 * @param jobsAtFault the keys of its failed and lost jobs
 */
export function nodePage(node: NodeView, jobsAtFault: readonly string[], mayChange: boolean): string {
  const { node: id, name, readAt, uncountedVotes } = node;
  const changes = html`${isChangeable(node) ? forms(node) : html`<p class="notice">This node cannot be changed.</p>`}
${jobsAtFault.length > 0 ? jobsForm(jobsAtFault) : ''}`;
  return String(
    page({
      title: `Node ${name}`,
      main: html`
<h1>${name}</h1>
<p class="lede">${id}</p>
<nav aria-label="Dashboard"><a href="/">Audit</a></nav>
<section class="card" aria-labelledby="state">
<h2 id="state">State</h2>
<p>${stateOf(node)}</p>
<p>${readAt === null ? 'No worker has read it.' : html`Last read by a worker: ${dateTime(readAt)}.`} Uncounted votes according to Postgres: ${NUMBER.format(uncountedVotes)}.</p>
</section>
${mayChange ? changes : html`<p class="notice">You may look. An operator can change this node.</p>`}`,
    }),
  );
}

function forms({ node: id, reachable, state }: NodeView): Html {
  return html`
<section class="card" aria-labelledby="retire">
<h2 id="retire">Retire</h2>
<p>Its handlers stop accepting votes. When all its votes are counted, for which workers must be able to read it, the node is retired and no result waits for it.</p>
${state === 'retiring' ? html`<p class="notice">Its retirement was requested.</p>` : form(id, 'retire', 'Retire')}
</section>
<section class="card" aria-labelledby="write-off">
<h2 id="write-off">Write off</h2>
<p>For a node that will not return: polls become final without its uncounted votes, and their results name the node and the reason permanently. It is revoked if the node is read again before.</p>
${
  reachable
    ? html`<p class="notice">The node is reachable, so its votes can be counted. Retire it instead.</p>`
    : form(id, 'write-off', 'Write off')
}
</section>`;
}

function jobsForm(jobsAtFault: readonly string[]): Html {
  const jobs = jobsAtFault.slice(0, JOBS_PER_WRITE_OFF_MAX);
  return html`
<section class="card" aria-labelledby="write-off-jobs">
<h2 id="write-off-jobs">Write off jobs</h2>
<p>For failed jobs that cannot be retried in the <a href="/queues">queues</a>, and for lost ones: polls become final without the votes in them, and their results name the jobs and the reason permanently. It cannot be revoked: a job that arrives later fails.</p>
<form class="form" method="post" action="/jobs/write-off">
<label for="jobs">Failed and lost jobs, ${JOBS_PER_WRITE_OFF_MAX} at a time; remove those to keep</label>
<textarea id="jobs" name="jobs" required rows="${Math.min(jobs.length, ROWS_MAX)}" autocomplete="off" spellcheck="false">
${jobs.join('\n')}</textarea>
<label for="jobs-reason">Reason</label>
<input id="jobs-reason" name="reason" required maxlength="${REASON_CHARACTERS_MAX}" autocomplete="off">
<button>Write off jobs</button>
</form>
</section>`;
}

function form(id: string, action: string, label: string): Html {
  return html`<form class="form" method="post" action="/nodes/${id}/${action}">
<label for="${action}-reason">Reason</label>
<input id="${action}-reason" name="reason" required maxlength="${REASON_CHARACTERS_MAX}" autocomplete="off">
<button>${label}</button>
</form>`;
}
