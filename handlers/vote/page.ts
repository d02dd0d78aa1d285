import { html } from 'hono/html';
import type { Poll, StoredPoll } from '#runtime/polls.ts';
import { type Html, page } from '../web/layout.ts';
import type { Phase, PollBook } from './polls.ts';

/** What the page of a poll depends on besides the poll. */
interface PollView {
  readonly phase: Phase;
  /** The choice that this voter made before; ignored unless the poll has it. */
  readonly chosen?: string | undefined;
  /** Why the vote just sent was refused. */
  readonly notice?: string | undefined;
}

interface Pages {
  /** Returns the page of a poll. */
  poll(poll: StoredPoll, view: PollView): string;
  /** Returns a page with a message only. */
  notice(text: string): string;
}

/**
 * Creates the voters' pages. Each is rendered once and kept until a poll changes, because a page links to all polls. Polls,
 * their choices and the fixed messages bound their number, whatever clients send.
 */
export function createPages(polls: Pick<PollBook, 'all'>): Pages {
  const rendered = new Map<string, string>();
  let renderedOf = polls.all;
  const renderOnce = (key: string, render: () => Html): string => {
    if (polls.all !== renderedOf) rendered.clear();
    renderedOf = polls.all;
    const page = rendered.get(key) ?? String(render());
    rendered.set(key, page);
    return page;
  };

  return {
    poll: (poll, { phase, chosen, notice }) => {
      const choice = poll.choices.find(({ id }) => id === chosen);
      const key = [poll.id, poll.revision, phase, choice?.id, notice].join('\0');
      return renderOnce(key, () => pollPage(poll, phase, choice, notice, otherPolls(polls.all, poll)));
    },
    notice: (text) => renderOnce(text, () => page({ title: 'Turnout', main: errorNotice(text) })),
  };
}

function pollPage(
  poll: Poll,
  phase: PollView['phase'],
  chosen: Poll['choices'][number] | undefined,
  notice: string | undefined,
  footer: Html | undefined,
): Html {
  const main = html`
    <h1>${poll.question}</h1>
    <p class="lede">${lede(poll, phase)}</p>
    ${notice === undefined ? thanks(chosen, phase) : errorNotice(notice)}
    <form method="post" action="/polls/${poll.id}/votes" class="choices">
      ${poll.choices.map(
        ({ id, label }) =>
          html`<button class="choice" name="choice" value="${id}" aria-pressed="${id === chosen?.id ? 'true' : 'false'}"${
            phase === 'open' ? '' : html` disabled`
          }>${label}</button>`,
      )}
    </form>`;
  return page({ title: poll.question, main, ...(footer && { footer }) });
}

function lede(poll: Poll, phase: PollView['phase']): string {
  if (phase === 'closed') return 'This poll is closed. Thank you for voting!';
  if (phase === 'not open') return `This poll opens on ${formatTime(poll.opensAt)}.`;
  const until = poll.closesAt === undefined ? '' : ` until ${formatTime(poll.closesAt)}`;
  return `Tap to vote. You can change your mind${until}; only your last choice counts.`;
}

/** Formats a time for readers in any time zone. */
function formatTime(milliseconds: number | undefined): string {
  if (milliseconds === undefined) return '';
  const format = new Intl.DateTimeFormat('en', { dateStyle: 'long', timeStyle: 'short', timeZone: 'UTC' });
  return `${format.format(milliseconds)} UTC`;
}

function thanks(chosen: Poll['choices'][number] | undefined, phase: PollView['phase']): Html | string {
  if (!chosen) return '';
  const change = phase === 'open' ? ' You can still change it.' : '';
  return html`<p class="notice success" role="status">Your vote is in: <strong>${chosen.label}</strong>.${change}</p>`;
}

function errorNotice(text: string): Html {
  return html`<p class="notice error" role="alert">${text}</p>`;
}

function otherPolls(polls: readonly Poll[], current: Poll): Html | undefined {
  const others = polls.filter(({ id }) => id !== current.id);
  if (others.length === 0) return undefined;
  return html`<nav aria-label="Other polls">${others.map(
    ({ id, question }) => html`<a href="/polls/${id}">${question}</a>`,
  )}</nav>`;
}
