import { html, raw } from 'hono/html';
import qrcode from 'qrcode-generator';
import type { PollResult } from '#db/results.ts';
import { type Html, page, pageHeaders } from '../web/layout.ts';
import { accentStyle } from '../web/style.ts';
import type { Snapshot } from './feed.ts';
import {
  choiceRows,
  counted,
  languageOf,
  paceSentence,
  REFRESH_SECONDS,
  RESULTS_CACHE_CONTROL,
  RESULTS_SCRIPT,
  type RenderedPage,
  statusBadge,
} from './page.ts';
import { isShown, resultView } from './view.ts';

/** The white frame that a QR code needs, in modules (ISO/IEC 18004). */
const QUIET_MODULES = 4;
/** With more choices than this they are in two columns; with more than `MEDIUM_MAX` they are small. */
const LARGE_MAX = 3;
const MEDIUM_MAX = 8;

/** All sizes follow the screen's, so that twenty choices fit without scrolling. On a phone the page scrolls. */
const STYLE = `
.wall { --size: min(3vw, 5.5vh); }
.medium { --size: min(2.2vw, 4vh); }
.small { --size: min(1.4vw, 1.8vh); }
.wall main {
  max-width: none; display: grid; grid-template-columns: 1fr auto; gap: 3vh 5vw; align-items: center; align-content: center;
  padding: 4vh 4vw;
}
.wall h1 { grid-column: 1 / -1; font-size: calc(var(--size) * 1.8); }
.small main { row-gap: 2vh; }
.wall .results { gap: calc(var(--size) * 0.6) 4vw; margin: 0; }
.wall .result { gap: calc(var(--size) * 0.15) 1rem; align-content: start; }
.wall .label { font-size: var(--size); line-height: 1.2; }
.wall .share { font-size: calc(var(--size) * 1.5); line-height: 1; }
.wall .votes { font-size: calc(var(--size) * 0.5); }
.small .votes { font-size: calc(var(--size) * 0.8); line-height: 1; }
.wall .facts, .qr { font-size: max(1rem, min(1.4vw, 2.6vh)); }
.wall .bar { height: calc(var(--size) * 0.6); }
.wall .facts { grid-column: 1 / -1; margin: 0; color: var(--soft); }
.wall .badge { font-size: inherit; }
.wall .footer { position: absolute; padding: 0; }
.qr { margin: 0; font-weight: 650; text-align: center; }
.qr svg { display: block; width: min(26vw, 46vh); margin: 0 auto 1vh; border-radius: var(--radius); background: #fff; forced-color-adjust: none; }
.qr path { fill: #000; }
@media (max-width: 50rem) {
  .wall { --size: 1.25rem; }
  .wall .votes { font-size: 0.9375rem; }
  .wall main { grid-template-columns: 1fr; align-content: start; }
  .qr svg { width: 12rem; }
}
@media (min-width: 50rem) { .medium .results, .small .results { grid-template-columns: 1fr 1fr; } }
`;

/** Returns the page of a poll for a large screen, with a QR code that leads to the vote. @param voteUrl see `settings.voteUrl` */
export function wallPage(snapshot: Snapshot, result: PollResult, voteUrl?: string): RenderedPage {
  const { poll, question, presentation } = result;
  const style = STYLE + (presentation.colours ? accentStyle(presentation.colours) : '');
  const view = isShown(result) ? resultView(result, snapshot) : undefined;
  const address = voteUrl === undefined ? undefined : `${voteUrl}/polls/${encodeURIComponent(poll)}`;
  const isFinal = result.finalAt !== null;
  const main = html`
<h1${languageOf(result)}>${question}</h1>
${view ? choiceRows(view, languageOf(result)) : html`<p class="notice">The result is shown once it is final.</p>`}
${address !== undefined && !isFinal ? qrCode(address) : ''}
<p class="facts">${view ? html`${statusBadge(view)} ${counted(view.total, 'voter')}.${paceSentence(snapshot)}` : ''}</p>
<p class="notice error" id="offline" role="alert" hidden>No connection. These are the last known results; retrying.</p>`;
  const body = String(
    page({
      title: `${question} Results`,
      main,
      style,
      layout: `wall ${sizeOf(result.choices?.length ?? 0)}`,
      footer: html`<p class="hidden" id="spoken" role="status"></p>`,
      script: RESULTS_SCRIPT,
      refreshSeconds: REFRESH_SECONDS,
    }),
  );
  return { headers: { ...pageHeaders(RESULTS_SCRIPT, style), 'Cache-Control': RESULTS_CACHE_CONTROL }, body };
}

function sizeOf(choices: number): 'large' | 'medium' | 'small' {
  if (choices <= LARGE_MAX) return 'large';
  return choices <= MEDIUM_MAX ? 'medium' : 'small';
}

function qrCode(address: string): Html {
  // Type 0 is the smallest that holds the address; M corrects 15 %, enough for a screen that is seen at an angle.
  const code = qrcode(0, 'M');
  code.addData(address);
  code.make();
  const modules = code.getModuleCount();
  const indices = Array.from({ length: modules }, (_, index) => index);
  const path = indices
    .flatMap((row) => indices.filter((column) => code.isDark(row, column)).map((column) => [row, column]))
    .map(([row, column]) => `M${column} ${row}h1v1h-1z`)
    .join('');
  const size = modules + 2 * QUIET_MODULES;
  return html`<figure class="qr">
<svg viewBox="${-QUIET_MODULES} ${-QUIET_MODULES} ${size} ${size}" role="img" aria-label="QR code of the voting page" shape-rendering="crispEdges"><path d="${raw(path)}"/></svg>
<figcaption>${address.replace(/^https?:\/\//, '')}</figcaption>
</figure>`;
}
