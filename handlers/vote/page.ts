import { html } from 'hono/html';
import type { Poll, phaseOf } from '#runtime/polls.ts';
import { type Html, page } from '../web/layout.ts';

/** What a poll's page depends on, besides the poll. */
interface PollView {
  readonly phase: ReturnType<typeof phaseOf>;
  /** The choice that this voter made before; anything else than a choice of the poll is ignored. */
  readonly chosen?: string | undefined;
  /** What went wrong with the vote that was just sent. */
  readonly notice?: string | undefined;
}

interface Pages {
  poll(poll: Poll, view: PollView): string;
  /** A page that only says something. */
  notice(text: string): string;
}

/**
 * Makes the voters' pages. Each is made once and kept: there are as many as polls, their choices and the known
 * messages allow, whoever asks.
 */
export function createPages(polls: readonly Poll[]): Pages {
  const made = new Map<string, string>();
  const keep = (key: string, make: () => Html): string => {
    const known = made.get(key);
    if (known !== undefined) return known;
    const text = String(make());
    made.set(key, text);
    return text;
  };

  return {
    poll: (poll, { phase, chosen, notice }) => {
      const choice = poll.choices.find(({ id }) => id === chosen);
      const key = [poll.id, phase, choice?.id, notice].join('\0');
      return keep(key, () => pollPage(poll, phase, choice, notice, otherPolls(polls, poll)));
    },
    notice: (text) => keep(text, () => page({ title: 'Turnout', main: errorNotice(text) })),
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
  if (phase === 'closed') return 'This poll is closed. Thank you for voting.';
  if (phase === 'not open') return `This poll opens ${spell(poll.opensAt)}.`;
  const until = poll.closesAt === undefined ? '' : ` until ${spell(poll.closesAt)}`;
  return `One tap is one vote. You can change your mind${until}; your last choice counts.`;
}

/** A time for people in any time zone. */
function spell(milliseconds: number | undefined): string {
  if (milliseconds === undefined) return '';
  const text = new Intl.DateTimeFormat('en', { dateStyle: 'long', timeStyle: 'short', timeZone: 'UTC' });
  return `${text.format(milliseconds)} UTC`;
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
