import { html } from 'hono/html';
import type { Challenge } from '#runtime/challenges.ts';
import type { Poll, StoredPoll } from '#runtime/polls.ts';
import { type Html, inLanguage, type PageParts, page, pageHeaders } from '../web/layout.ts';
import { accentStyle } from '../web/style.ts';
import type { Phase, PollBook } from './polls.ts';

type Choice = Poll['choices'][number];

/** Longer than the issuer takes to answer. */
const TOKEN_MS_MAX = 8_000;

/** What the page of a poll depends on besides the poll. */
interface PollView {
  readonly phase: Phase;
  /** The choice that this voter made before; ignored unless the poll has it. */
  readonly chosen?: string | undefined;
  /** Why the vote just sent was refused. */
  readonly notice?: string | undefined;
}

interface RenderedPage {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

interface Pages {
  /** Returns the page of a poll. */
  poll(poll: StoredPoll, view: PollView): RenderedPage;
  /** Returns a page with a message only. */
  notice(text: string): RenderedPage;
}

/**
 * Creates the voters' pages. Each is rendered once and kept until a poll changes, because a page links to all polls. Polls,
 * their choices and the fixed messages bound their number, whatever clients send.
 *
 * @param challenge what a voter solves for a token, if anything
 */
export function createPages(polls: Pick<PollBook, 'listed'>, challenge?: Challenge): Pages {
  const rendered = new Map<string, RenderedPage>();
  let renderedOf = polls.listed;
  const renderOnce = (key: string, parts: () => PageParts): RenderedPage => {
    if (polls.listed !== renderedOf) rendered.clear();
    renderedOf = polls.listed;
    const page = rendered.get(key) ?? render(parts());
    rendered.set(key, page);
    return page;
  };

  return {
    poll: (poll, { phase, chosen, notice }) => {
      const choice = poll.choices.find(({ id }) => id === chosen);
      const key = [poll.id, poll.revision, phase, choice?.id, notice].join('\0');
      return renderOnce(key, () =>
        pollPage(poll, {
          phase,
          choice,
          notice,
          challenge: phase === 'open' ? challenge : undefined,
          footer: otherPolls(polls.listed, poll),
        }),
      );
    },
    notice: (text) => renderOnce(text, () => ({ title: 'Turnout', main: errorNotice(text) })),
  };
}

/** Private: a page shows the voter's choice. */
function render(parts: PageParts): RenderedPage {
  const { script, style, widget } = parts;
  const headers = { ...pageHeaders(script, style, widget), 'Cache-Control': 'private, no-cache' };
  return { headers, body: String(page(parts)) };
}

interface PollPageView extends Omit<PollView, 'chosen'> {
  readonly choice: Choice | undefined;
  readonly challenge: Challenge | undefined;
  readonly footer: Html | undefined;
}

function pollPage(poll: Poll, { phase, choice: chosen, notice, challenge, footer }: PollPageView): PageParts {
  const main = html`
    <h1>${poll.question}</h1>
    <p class="lede">${lede(poll, phase)}</p>
    ${notice === undefined ? thanks(poll, chosen, phase) : errorNotice(notice)}
    <form method="post" action="/polls/${poll.id}/votes" class="choices">
      ${poll.choices.map(
        ({ id, label }) =>
          html`<button class="choice" name="choice" value="${id}" aria-pressed="${id === chosen?.id ? 'true' : 'false'}"${
            phase === 'open' ? '' : html` disabled`
          }>${label}</button>`,
      )}
    </form>
    ${challenge ? widget(challenge) : ''}`;
  const { question: title, lang, colours } = poll;
  return {
    title,
    main,
    lang,
    ...(colours && { style: accentStyle(colours) }),
    ...(footer && { footer }),
    ...(challenge && { script: challengeScript(challenge), widget: challenge.service.sources }),
  };
}

/** Outside the form: the answer goes to the issuer, and would exceed the size of a vote. */
function widget({ service, sitekey }: Challenge): Html {
  return html`<div class="${service.widgetClass}" data-sitekey="${sitekey}"></div>
    <script src="${service.script}" ${service.isModule ? html`type="module"` : 'async defer'}></script>`;
}

/**
 * Returns the script of a page with a challenge: it exchanges the answer for a token, which the issuer sets as the voter's
 * cookie, and then sends the vote. Whatever happens before, the vote is sent, and its answer says what was wrong.
 *
 * Friendly Captcha's input holds a text that begins with a dot until the challenge is solved.
 */
function challengeScript({ service }: Challenge): string {
  return `
const form = document.querySelector('.choices');
let isAsking = false;
form.addEventListener('submit', async (event) => {
  const input = document.querySelector('[name="${service.answerField}"]');
  if (!isAsking && (!input?.value || input.value.startsWith('.'))) return;
  event.preventDefault();
  if (isAsking) return;
  isAsking = true;
  const body = new URLSearchParams({ credential: input.value });
  // An answer is good for one token.
  input.value = '';
  await fetch('/tokens', { method: 'POST', body, signal: AbortSignal.timeout(${TOKEN_MS_MAX}) }).catch(() => {});
  isAsking = false;
  form.requestSubmit(event.submitter);
});
`;
}

function lede(poll: Poll, phase: Phase): Html | string {
  const { texts, lang, opensAt, closesAt } = poll;
  if (phase === 'closed')
    return texts?.closed ?? inEnglish(poll, 'This poll is closed. Thank you for voting!');
  if (phase === 'not open') {
    if (texts?.notOpen) return `${texts.notOpen} ${formatTime(opensAt, lang)}`;
    return inEnglish(poll, `This poll opens on ${formatTime(opensAt)}.`);
  }
  const until = closesAt === undefined ? '' : ` until ${formatTime(closesAt)}`;
  const invitation = `Tap to vote. You can change your mind${until}; only your last choice counts.`;
  return texts?.invitation ?? inEnglish(poll, invitation);
}

/** Formats a time for readers in any time zone. */
function formatTime(milliseconds: number | undefined, lang = 'en'): string {
  if (milliseconds === undefined) return '';
  const format = new Intl.DateTimeFormat(lang, { dateStyle: 'long', timeStyle: 'short', timeZone: 'UTC' });
  return `${format.format(milliseconds)} UTC`;
}

function thanks(poll: Poll, chosen: Choice | undefined, phase: Phase): Html | string {
  if (!chosen) return '';
  const label = html`<strong${inLanguage(poll.lang)}>${chosen.label}</strong>`;
  if (poll.texts?.thanks)
    return html`<p class="notice success" role="status">${poll.texts.thanks} ${label}</p>`;
  const change = phase === 'open' ? ' You can still change it.' : '';
  return html`<p class="notice success" role="status"${inLanguage()}>Your vote is in: ${label}.${change}</p>`;
}

/** Marks a text of the page's own on the page of a poll in another language. */
function inEnglish({ lang }: Poll, text: string): Html | string {
  return lang === undefined ? text : html`<span${inLanguage()}>${text}</span>`;
}

function errorNotice(text: string): Html {
  return html`<p class="notice error" role="alert"${inLanguage()}>${text}</p>`;
}

function otherPolls(polls: readonly Poll[], current: Poll): Html | undefined {
  const others = polls.filter(({ id }) => id !== current.id);
  if (others.length === 0) return undefined;
  return html`<nav aria-label="Other polls">${others.map(
    (poll) => html`<a href="/polls/${poll.id}"${inLanguage(poll.lang)}>${poll.question}</a>`,
  )}</nav>`;
}
