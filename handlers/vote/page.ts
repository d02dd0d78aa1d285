import { html } from 'hono/html';
import type { Challenge } from '#runtime/challenges.ts';
import type { Choice, Poll, StoredPoll } from '#runtime/polls.ts';
import { type Cacheable, cacheable } from '../web/cacheable.ts';
import { type Html, inLanguage, type PageParts, page, pageHeaders, SAFE_HEADERS } from '../web/layout.ts';
import { accentStyle } from '../web/style.ts';
import { DRAWINGS } from './drawings.ts';
import type { Phase, PollBook } from './polls.ts';
import { votingScript } from './script.ts';

/** What the page of a voter depends on besides the poll. */
interface VoterView {
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
  /** Returns the page of a poll, the same for everybody. Browsers without script go on to `voterPath`. */
  poll(poll: StoredPoll, phase: Phase): Cacheable;
  /** Returns the definition of a poll as JSON, the same for everybody. */
  definition(poll: StoredPoll, phase: Phase): Cacheable;
  /** Returns the page of a poll for one voter. */
  voter(poll: StoredPoll, view: VoterView): RenderedPage;
  /** Returns a page with a message only. */
  notice(text: string): RenderedPage;
}

/** The path of the page of a poll for one voter. It sets the voter cookie, and is the only one that gets the cookie of the choice. */
export const voterPath = (poll: Poll): string => `/polls/${poll.id}/ballot`;

/**
 * Creates the voters' pages. Each is rendered once and kept until a poll changes, because a page links to all polls. Polls,
 * their choices and the fixed messages bound their number, whatever clients send.
 *
 * @param challenge what a voter solves for a token, if anything
 */
export function createPages(polls: Pick<PollBook, 'listed'>, challenge?: Challenge): Pages {
  const kept = new Map<string, unknown>();
  let keptOf = polls.listed;
  const once = <T>(key: readonly (string | number | undefined)[], make: () => T): T => {
    if (polls.listed !== keptOf) kept.clear();
    keptOf = polls.listed;
    const name = key.join('\0');
    const value = (kept.get(name) as T | undefined) ?? make();
    kept.set(name, value);
    return value;
  };
  const partsOf = (poll: StoredPoll, view: Omit<PollPageView, 'challenge' | 'footer'>): PageParts =>
    pollPage(poll, {
      ...view,
      challenge: view.phase === 'open' ? challenge : undefined,
      footer: otherPolls(polls.listed, poll),
    });

  return {
    poll: (poll, phase) =>
      once(['poll', poll.id, poll.revision, phase], () => {
        const parts = partsOf(poll, { phase });
        const withoutScript = phase === 'open' ? { withoutScript: voterPath(poll) } : {};
        return cacheable(String(page({ ...parts, ...withoutScript })), headersOf(parts));
      }),
    definition: (poll, phase) =>
      once(['definition', poll.id, poll.revision, phase], () =>
        cacheable(JSON.stringify({ ...definitionOf(poll), phase }), DEFINITION_HEADERS),
      ),
    voter: (poll, { phase, chosen, notice }) => {
      const choice = poll.choices.find(({ id }) => id === chosen);
      return once(['voter', poll.id, poll.revision, phase, choice?.id, notice], () =>
        renderPrivate(partsOf(poll, { phase, choice, notice })),
      );
    },
    notice: (text) =>
      once(['notice', text], () =>
        renderPrivate({ title: 'Turnout', main: html`<h1>Sorry</h1>${errorNotice(text)}` }),
      ),
  };
}

const DEFINITION_HEADERS = { 'Content-Type': 'application/json', ...SAFE_HEADERS };

function definitionOf({ id, question, choices: offered, opensAt, closesAt }: Poll) {
  const choices = offered.map(({ image, ...choice }) => ({
    ...choice,
    ...(image !== undefined && { image: imagePath(image) }),
  }));
  return { poll: id, question, choices, opensAt: isoTime(opensAt), closesAt: isoTime(closesAt) };
}

const imagePath = (name: string): string => `/images/${name}`;

function isoTime(milliseconds: number | undefined): string | null {
  return milliseconds === undefined ? null : new Date(milliseconds).toISOString();
}

function headersOf({ script, style, widget }: PageParts): Readonly<Record<string, string>> {
  return pageHeaders(script, style, widget);
}

function renderPrivate(parts: PageParts): RenderedPage {
  return {
    headers: { ...headersOf(parts), 'Cache-Control': 'private, no-store' },
    body: String(page(parts)),
  };
}

interface PollPageView extends Omit<VoterView, 'chosen'> {
  readonly choice?: Choice | undefined;
  readonly challenge: Challenge | undefined;
  readonly footer: Html | undefined;
}

function pollPage(poll: Poll, { phase, choice: chosen, notice, challenge, footer }: PollPageView): PageParts {
  const main = html`
    <h1>${poll.question}</h1>
    <p class="lede">${lede(poll, phase)}</p>
    ${notice === undefined ? thanks(poll, chosen, phase) : errorNotice(notice)}
    <form method="post" action="/polls/${poll.id}/votes" class="choices" data-poll="${poll.id}" data-phase="${phase}"${
      poll.texts?.thanks ? html` data-thanks="${poll.texts.thanks}"` : ''
    }>
      ${poll.choices.map(
        (choice) =>
          html`<button class="choice" name="choice" value="${choice.id}" aria-pressed="${choice.id === chosen?.id ? 'true' : 'false'}"${
            phase === 'open' ? '' : html` disabled`
          }>${picture(choice)}<span>${choice.label}</span></button>`,
      )}
    </form>
    <p class="receipt" id="receipt"${inLanguage()} hidden>Receipt: <a></a></p>
    ${challenge ? widget(challenge) : ''}`;
  const { question: title, lang, colours } = poll;
  return {
    title,
    main,
    lang,
    ...(colours && { style: accentStyle(colours) }),
    ...(footer && { footer }),
    script: votingScript(challenge),
    ...(challenge && { widget: challenge.service.sources }),
  };
}

function picture({ id, image }: Choice): Html | string {
  return image === undefined ? (DRAWINGS.get(id) ?? '') : html`<img src="${imagePath(image)}" alt="">`;
}

/** Outside the form: the answer goes to the issuer, and would exceed the size of a vote. */
function widget({ service, sitekey }: Challenge): Html {
  return html`<div class="${service.widgetClass}" data-sitekey="${sitekey}"></div>
    <script src="${service.script}" ${service.isModule ? html`type="module"` : 'async defer'}></script>`;
}

function lede(poll: Poll, phase: Phase): Html | string {
  const { texts, opensAt, closesAt } = poll;
  if (phase === 'closed')
    return texts?.closed ?? inEnglish(poll, 'This poll is closed. Thank you for voting!');
  if (phase === 'not open') {
    const opens = texts?.notOpen ?? inEnglish(poll, 'This poll opens on');
    return html`${opens} ${opensAt === undefined ? '' : changeTime(poll, opensAt)}`;
  }
  const invitation =
    texts?.invitation ??
    inEnglish(poll, 'Tap to vote. You can change your mind; only your last choice counts.');
  if (closesAt === undefined) return invitation;
  const closes = texts?.closes ?? inEnglish(poll, 'Voting closes on');
  return html`${invitation} ${closes} ${changeTime(poll, closesAt)}`;
}

/** The time at which a poll opens or closes. The script shows it in the reader's own zone and counts down to it. */
function changeTime({ lang = 'en' }: Poll, milliseconds: number): Html {
  const format = new Intl.DateTimeFormat(lang, { dateStyle: 'long', timeStyle: 'short', timeZone: 'UTC' });
  return html`<time datetime="${isoTime(milliseconds)}">${format.format(milliseconds)} UTC</time><span id="countdown"></span>`;
}

function thanks(poll: Poll, chosen: Choice | undefined, phase: Phase): Html | string {
  if (!chosen) return html`<p class="notice" id="status" role="status" hidden></p>`;
  const label = html`<strong${inLanguage(poll.lang)}>${chosen.label}</strong>`;
  if (poll.texts?.thanks)
    return html`<p class="notice success" id="status" role="status">${poll.texts.thanks} ${label}</p>`;
  const change = phase === 'open' ? ' You can still change it.' : '';
  return html`<p class="notice success" id="status" role="status"${inLanguage()}>Your vote is in: ${label}.${change}</p>`;
}

/** Marks a text of the page's own on the page of a poll in another language. */
function inEnglish({ lang }: Poll, text: string): Html | string {
  return lang === undefined ? text : html`<span${inLanguage()}>${text}</span>`;
}

function errorNotice(text: string): Html {
  return html`<p class="notice error" id="status" role="alert"${inLanguage()}>${text}</p>`;
}

function otherPolls(polls: readonly Poll[], current: Poll): Html | undefined {
  const others = polls.filter(({ id }) => id !== current.id);
  if (others.length === 0) return undefined;
  return html`<nav aria-label="Other polls">${others.map(
    (poll) => html`<a href="/polls/${poll.id}"${inLanguage(poll.lang)}>${poll.question}</a>`,
  )}</nav>`;
}
