import { html } from 'hono/html';
import { type Html, page, pageHeaders } from '../web/layout.ts';
import { REASON_CHARACTERS_MAX } from './changes.ts';
import { type PollView, phaseBadge, pollState } from './polls-cards.ts';

/** The headers of the page of a poll. It requires a password, so no cache may keep it. */
export const POLL_PAGE_HEADERS = { ...pageHeaders(), 'Cache-Control': 'no-store' };

/** Returns the page of a poll, with a form for each change if the user may make it. It does not reload, so that a reason can be typed without script. */
export function pollPage(poll: PollView, mayChange: boolean): string {
  return String(
    page({
      title: poll.question,
      main: html`
<h1>${poll.question}</h1>
<nav aria-label="Dashboard"><a href="/">Audit</a></nav>
<section class="card" aria-labelledby="state">
<header><h2 id="state">State</h2>${phaseBadge(poll)}</header>
${pollState(poll)}
</section>
${mayChange ? forms(poll) : html`<p class="notice">You may look. An operator can change this poll.</p>`}`,
    }),
  );
}

/** Returns a form for each change that makes sense now. */
function forms(poll: PollView): Html {
  const { id, phase, results } = poll;
  if (phase === 'forgotten')
    return html`<p class="notice">Its votes are deleted. Nothing else can change.</p>`;
  if (phase === 'final') {
    return form(
      id,
      'forget',
      'Forget',
      'Deletes its votes and what was rejected for it, for good. The result and its evidence stay; a hidden poll disappears.',
    );
  }
  const isOpen = phase === 'open';
  return html`
${isOpen ? form(id, 'close', 'Close now', 'Within two seconds no handler accepts a vote; the result is final seconds later.') : ''}
${isOpen ? '' : form(id, 'open', 'Open now', 'A time to close that has passed is removed.')}
${form(
  id,
  'extend',
  'Extend',
  'Moves the time to close. A poll that has closed opens again.',
  html`${
    poll.closesAt === null
      ? ''
      : html`<label for="minutes">Minutes later</label>
<input id="minutes" name="minutes" type="number" min="1" max="10080" autocomplete="off">`
  }
<label for="closes-at">${poll.closesAt === null ? 'Closes at' : 'Or closes at'}, in UTC</label>
<input id="closes-at" name="closesAt" type="datetime-local" autocomplete="off">`,
)}
${
  results === 'live'
    ? form(id, 'embargo', 'Embargo', 'The result is shown once it is final.', embargo('closed'))
    : form(id, 'embargo', 'Lift the embargo', 'The result is shown while votes are counted.', embargo('live'))
}`;
}

function embargo(results: 'live' | 'closed'): Html {
  return html`<input type="hidden" name="results" value="${results}">`;
}

function form(id: string, action: string, label: string, note: string, fields: Html | '' = ''): Html {
  return html`<section class="card" aria-labelledby="${action}">
<h2 id="${action}">${label}</h2>
<p>${note}</p>
<form class="form" method="post" action="/polls/${id}/${action}">
${fields}
<label for="${action}-reason">Reason</label>
<input id="${action}-reason" name="reason" required maxlength="${REASON_CHARACTERS_MAX}" autocomplete="off">
<button>${label}</button>
</form>
</section>`;
}
