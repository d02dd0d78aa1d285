import { html } from 'hono/html';
import type { Html } from '../web/layout.ts';

export const NUMBER: Intl.NumberFormat = new Intl.NumberFormat('en-US');

/** Returns a table in a card. Its heading is `title`; `note` explains it. */
export function card(id: string, title: string, note: string, rows: Html): Html {
  return html`<section class="card" aria-labelledby="${id}">
<h2 id="${id}">${title}</h2>
<p class="muted">${note}</p>
<div class="scroll" id="${id}-table" tabindex="0" role="group" aria-labelledby="${id}"><table class="table">${rows}</table></div>
</section>`;
}

/** Returns the headings of columns of numbers. */
export function numberHeads(titles: readonly string[]): Html {
  return html`${titles.map((title) => html`<th scope="col" class="number">${title}</th>`)}`;
}

/** Returns cells of numbers. */
export function numberCells(numbers: readonly number[]): Html {
  return html`${numbers.map((number) => html`<td class="number">${NUMBER.format(number)}</td>`)}`;
}

/** Returns the cell of a number that should be 0. */
export function alarmCell(number: number): Html {
  return html`<td class="${number > 0 ? 'number alarm' : 'number'}">${NUMBER.format(number)}</td>`;
}

/** Returns a time of day with the date as its machine-readable value. */
export function time(iso: string): Html {
  return html`<time datetime="${iso}">${iso.slice(11, 19)} UTC</time>`;
}

/** Returns a date with the time of day. */
export function dateTime(iso: string): Html {
  return html`<time datetime="${iso}">${iso.slice(0, 10)} ${iso.slice(11, 19)} UTC</time>`;
}
