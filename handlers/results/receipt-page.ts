import { html } from 'hono/html';
import type { ReceiptStatus } from '#db/results.ts';
import { page, pageHeaders } from '../web/layout.ts';
import { REFRESH_SECONDS, type RenderedPage } from './page.ts';

interface Meaning {
  readonly title: string;
  readonly text: string;
  readonly isFinal: boolean;
}

const MEANINGS: Readonly<Record<ReceiptStatus, Meaning>> = {
  counted: {
    title: 'Your vote is counted',
    text: 'If you voted more than once, your last vote is the one in the result.',
    isFinal: true,
  },
  pending: {
    title: 'Your vote is safe and waits to be counted',
    text: 'It is on disk. This page looks again every few seconds.',
    isFinal: false,
  },
  unknown: {
    title: 'This receipt is not known yet',
    text: 'A receipt is known a few seconds after the vote. This page looks again every few seconds; if it stays like this, compare the receipt with the one on the voting page.',
    isFinal: false,
  },
  written_off: {
    title: 'Your vote is not in the result',
    text: 'Your vote was lost with the machine that held it. The results page names the machine and the reason.',
    isFinal: true,
  },
};

/** Returns the page of a receipt. A browser loads it again, with and without scripts, until the status is the last one. */
export function receiptPage(receipt: string, status: ReceiptStatus): RenderedPage {
  const { title, text, isFinal } = MEANINGS[status];
  const main = html`
<h1>${title}</h1>
<p class="lede">${text}</p>
<p class="muted">Receipt: ${receipt}</p>`;
  const headers = { ...pageHeaders(), ...(!isFinal && { Refresh: String(REFRESH_SECONDS) }) };
  return { headers, body: String(page({ title, main, footer: html`<p><a href="..">Results</a></p>` })) };
}
