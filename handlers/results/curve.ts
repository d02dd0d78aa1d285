import { html } from 'hono/html';
import { HISTORY_SECONDS, type HistoryPoint } from '#db/history.ts';
import type { Html } from '../web/layout.ts';

/** Steps of the curve. A longer history has longer steps, each as high as its busiest moment. */
const STEPS_MAX = 120;
const HISTORY_MS = HISTORY_SECONDS * 1_000;
const WIDTH = 600;
const HEIGHT = 120;

const NUMBER = new Intl.NumberFormat('en-US');

interface Curve {
  /** Start and end, in milliseconds since 1970. */
  readonly from: number;
  readonly to: number;
  /** The most votes a second within each step. */
  readonly rates: readonly number[];
}

/**
 * Returns the pace from the first vote of the history on; `undefined` before there is one.
 *
 * @param history in order of time. A restored backup has accepted less, which shows as no vote.
 */
export function curveOf(history: readonly HistoryPoint[]): Curve | undefined {
  const spans = history.slice(1).map((to, index) => {
    const from = history[index] ?? to;
    return { from: from.at, to: to.at, votes: Math.max(0, to.accepted - from.accepted) };
  });
  const shown = spans.slice(spans.findIndex(({ votes }) => votes > 0));
  const [first, last] = [shown[0], shown.at(-1)];
  if (!first || !last || first.votes === 0) return undefined;
  const stepMs = Math.ceil((last.to - first.from) / STEPS_MAX / HISTORY_MS) * HISTORY_MS;
  const rates = Array<number>(Math.ceil((last.to - first.from) / stepMs)).fill(0);
  for (const { from, to, votes } of shown) {
    const rate = (votes * 1_000) / (to - from);
    for (let at = from; at < to; at += HISTORY_MS) {
      const step = Math.floor((at - first.from) / stepMs);
      rates[step] = Math.max(rates[step] ?? 0, rate);
    }
  }
  return { from: first.from, to: last.to, rates };
}

/** Returns the section of a page that shows the pace of the last day; empty without votes. */
export function curveCard(history: readonly HistoryPoint[]): Html | '' {
  const curve = curveOf(history);
  if (!curve) return '';
  const { from, to, rates } = curve;
  const most = Math.max(...rates);
  const width = WIDTH / rates.length;
  const path = rates.map((rate, step) => {
    const top = HEIGHT - (rate / most) * HEIGHT;
    return `V${top.toFixed(1)}H${((step + 1) * width).toFixed(1)}`;
  });
  return html`
<section class="card" aria-labelledby="curve">
<header><h2 id="curve">Votes a second</h2><span class="badge">At most ${NUMBER.format(Math.ceil(most))}</span></header>
<svg class="curve" viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" aria-hidden="true"><path d="M0 ${HEIGHT}${path.join('')}V${HEIGHT}Z"/></svg>
<footer>${minute(from)}${minute(to)}</footer>
</section>`;
}

function minute(milliseconds: number): Html {
  const iso = new Date(milliseconds).toISOString();
  return html`<time datetime="${iso}">${iso.slice(11, 16)} UTC</time>`;
}
