import { html } from 'hono/html';
import type { Html } from '../web/layout.ts';

const draw = (paths: Html): Html =>
  html`<svg viewBox="0 0 48 48" aria-hidden="true" fill="none" stroke="currentColor" stroke-width="2.5" stroke-linecap="round" stroke-linejoin="round">${paths}</svg>`;

/** Drawings of choices without an image, by id, in the colour of the text. */
export const DRAWINGS: ReadonlyMap<string, Html> = new Map([
  [
    'cats',
    draw(
      html`<path d="M9 6l8 7a20 20 0 0 1 14 0l8-7 1 17c0 11-7 19-16 19S8 34 8 23z"/><path d="M17 23v3M31 23v3M22 31h4l-2 2zM24 33c0 3-4 4-6 2M24 33c0 3 4 4 6 2M3 28l7 1M3 35l7-1M45 28l-7 1M45 35l-7-1"/>`,
    ),
  ],
  [
    'dogs',
    draw(
      html`<path d="M13 11C7 7 3 12 3 20c0 7 4 11 8 8M35 11c6-4 10 1 10 9 0 7-4 11-8 8"/><path d="M13 11c4-4 18-4 22 0 2 4 2 10 2 17 0 9-6 15-13 15s-13-6-13-15c0-7 0-13 2-17z"/><path d="M18 20v3M30 20v3M21 28c0-2 6-2 6 0s-2 3-3 3-3-1-3-3zM24 31v3c-1 3-5 3-6 1M24 34c1 3 5 3 6 1M22 37v2a2 2 0 0 0 4 0v-2"/>`,
    ),
  ],
]);
