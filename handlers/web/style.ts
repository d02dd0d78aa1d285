/**
 * The stylesheet of all pages. It is inlined, so that a page takes one request. The Content-Security-Policy allows only
 * its hash, which rules out `style` attributes.
 *
 * - `.choices > button.choice`: a choice of a poll; selected with `aria-pressed="true"` or `.chosen`
 * - `.notice`, `.notice.error`, `.notice.success`: the outcome of the last action
 * - `.results > .result > svg.bar > rect`: the share of a choice; `.result.leading` leads
 * - `svg.curve > path`: a quantity over time
 * - `.table` inside `.scroll`: figures; `.number` aligns digits, `.alarm` marks a fault
 * - `.badge`, `.badge.good`, `.badge.bad`; `.card`; `.lede`; `.muted`
 * - `.form`: a label, a field and a button below each other
 */
export const STYLE = `
:root {
  color-scheme: light dark;
  --paper: #f7f5f0;
  --glow: #ece7fb;
  --card: #ffffff;
  --ink: #1c1a24;
  --soft: #625e70;
  --line: #e2ddd3;
  --line-strong: #8d8799;
  --accent: #4a3bc4;
  --accent-ink: #ffffff;
  --accent-soft: #edeafc;
  --track: #ece8df;
  --rest: #a49bd9;
  --good: #11693f;
  --good-soft: #e1f3e9;
  --bad: #ab1f33;
  --bad-soft: #fceaec;
  --shadow: 0 1px 2px rgb(28 26 36 / 6%), 0 8px 28px rgb(28 26 36 / 6%);
  --radius: 1.125rem;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #121119;
    --glow: #221d3c;
    --card: #1c1a26;
    --ink: #f3f1f9;
    --soft: #aba6bb;
    --line: #312e3f;
    --line-strong: #7d778f;
    --accent: #b1a5ff;
    --accent-ink: #17122f;
    --accent-soft: #2b2548;
    --track: #2a2737;
    --rest: #6a60a3;
    --good: #76d7a3;
    --good-soft: #16301f;
    --bad: #ff9aa7;
    --bad-soft: #3b1a21;
    --shadow: 0 1px 2px rgb(0 0 0 / 40%), 0 8px 28px rgb(0 0 0 / 25%);
  }
}
*, *::before, *::after { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; background: var(--paper); }
body {
  margin: 0;
  min-height: 100vh;
  min-height: 100svh;
  display: flex;
  flex-direction: column;
  background: radial-gradient(90rem 32rem at 50% -12rem, var(--glow), transparent 70%) no-repeat var(--paper);
  color: var(--ink);
  font: 1.0625rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  overflow-wrap: break-word;
}
main { width: 100%; max-width: 42rem; margin: 0 auto; padding: 2rem 1.25rem 2.5rem; flex: 1 0 auto; }
.wide main { max-width: 76rem; }
h1, h2 { line-height: 1.15; letter-spacing: -0.02em; text-wrap: balance; margin: 0; }
h1 { font-size: clamp(2rem, 1.4rem + 3.2vw, 3.25rem); font-weight: 800; }
h2 { font-size: clamp(1.375rem, 1.2rem + 0.9vw, 1.75rem); font-weight: 750; }
p { margin: 0 0 1rem; }
a { color: var(--accent); text-underline-offset: 0.2em; }
nav { display: flex; flex-wrap: wrap; gap: 0 1.25rem; margin: 0.5rem 0; }
nav a, .footer a { display: inline-flex; align-items: center; min-height: 48px; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 3px; border-radius: 0.375rem; }
.muted { color: var(--soft); }
.lede { color: var(--soft); font-size: 1.125rem; margin: 0.625rem 0 1.75rem; }
.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.hidden {
  position: absolute; width: 1px; height: 1px; margin: -1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap;
}

.choices { display: grid; gap: 0.875rem; margin: 1.75rem 0; padding: 0; border: 0; list-style: none; }
.choice {
  display: flex;
  align-items: center;
  justify-content: space-between;
  gap: 1rem;
  width: 100%;
  min-height: 80px;
  padding: 1rem 1.5rem;
  border: 2px solid var(--line-strong);
  border-radius: var(--radius);
  background: var(--card);
  box-shadow: var(--shadow);
  color: var(--ink);
  font: inherit;
  font-size: 1.375rem;
  font-weight: 700;
  text-align: start;
  cursor: pointer;
  touch-action: manipulation;
  -webkit-tap-highlight-color: transparent;
  transition: background-color 120ms, border-color 120ms, transform 120ms;
}
.choice::after {
  content: "";
  flex: none;
  width: 1.75rem;
  height: 1.75rem;
  border: 2px solid var(--line-strong);
  border-radius: 50%;
}
.choice img, .choice svg { flex: none; width: 3.5rem; height: 3.5rem; }
.choice img { border-radius: 0.5rem; object-fit: cover; }
.choice span { flex: 1; }
.choice:hover { border-color: var(--accent); background: var(--accent-soft); }
.choice:active { transform: scale(0.985); }
.choice:focus-visible { border-radius: var(--radius); }
.choice[aria-pressed="true"], .choice.chosen {
  border-color: var(--accent);
  background: var(--accent);
  color: var(--accent-ink);
}
.choice[aria-pressed="true"]::after, .choice.chosen::after {
  content: "\\2713" / "";
  display: grid;
  place-items: center;
  border-color: transparent;
  background: var(--accent-ink);
  color: var(--accent);
  font-size: 1.125rem;
  font-weight: 800;
}
.choice:disabled { cursor: default; box-shadow: none; opacity: 0.6; transform: none; }
.choice:disabled:is([aria-pressed="true"], .chosen) { opacity: 1; }
@media (min-width: 40rem) {
  main { padding-top: 4.5rem; }
  .choices { grid-template-columns: repeat(2, 1fr); gap: 1rem; }
  .choice { min-height: 112px; padding: 1.25rem 1.75rem; font-size: 1.625rem; }
}

.receipt { margin: -0.75rem 0 1rem; color: var(--soft); font-size: 0.875rem; }
.receipt a { color: inherit; }

.notice {
  margin: 1.25rem 0;
  padding: 0.875rem 1.125rem;
  border-radius: 0.875rem;
  background: var(--accent-soft);
  color: var(--ink);
  font-weight: 550;
}
.notice:empty, .notice[hidden] { display: none; }
.notice.success { background: var(--good-soft); color: var(--good); }
.notice.error { background: var(--bad-soft); color: var(--bad); }

.card {
  margin: 0 0 1.25rem;
  padding: 1.5rem 1.25rem;
  border: 1px solid var(--line);
  border-radius: calc(var(--radius) + 0.25rem);
  background: var(--card);
  box-shadow: var(--shadow);
}
.card > header { display: flex; align-items: flex-start; justify-content: space-between; gap: 0.5rem 1rem; }
.card > header .badge { margin-top: 0.1875rem; }
.card > footer {
  display: flex; flex-wrap: wrap; align-items: center; justify-content: space-between; gap: 0 1rem;
  margin-top: 1rem; color: var(--soft);
}
.card > footer a { display: inline-flex; align-items: center; min-height: 48px; }
.badge {
  display: inline-block;
  padding: 0.1875rem 0.75rem;
  border-radius: 999px;
  background: var(--accent-soft);
  color: var(--accent);
  font-size: 0.875rem;
  font-weight: 650;
  white-space: nowrap;
}
.badge.good { background: var(--good-soft); color: var(--good); }
.badge.bad { background: var(--bad-soft); color: var(--bad); }

.results { display: grid; gap: 1.125rem; margin: 1.5rem 0 0; padding: 0; list-style: none; }
.result { display: grid; grid-template-columns: 1fr auto; gap: 0.375rem 1rem; align-items: baseline; }
.result .label { font-size: 1.125rem; font-weight: 650; }
.result .share { font-size: 1.375rem; font-weight: 750; font-variant-numeric: tabular-nums; }
.result .votes { grid-column: 1 / -1; color: var(--soft); font-size: 0.9375rem; font-variant-numeric: tabular-nums; }
.results + .muted { margin: 1.25rem 0 0; }
.bar {
  grid-column: 1 / -1;
  display: block;
  width: 100%;
  height: 0.875rem;
  border-radius: 999px;
  background: var(--track);
  forced-color-adjust: none;
}
.bar rect { height: 100%; rx: 7px; fill: var(--rest); transition: width 600ms cubic-bezier(0.2, 0.7, 0.2, 1); }
.leading .bar rect { fill: var(--accent); }
.leading .share { color: var(--accent); }

.curve { display: block; width: 100%; height: 7.5rem; margin-top: 1rem; border-bottom: 1px solid var(--line-strong); }
.curve path { fill: var(--rest); }

.form { display: grid; grid-template-columns: minmax(0, 1fr); gap: 0.5rem; justify-items: start; margin-top: 1rem; }
.form label { font-weight: 650; }
.form input, .form textarea, .form button {
  min-height: 48px; padding: 0.5rem 1rem; border: 2px solid var(--line-strong); border-radius: 0.75rem;
  background: var(--card); color: var(--ink); font: inherit;
}
.form input, .form textarea { width: 100%; }
.form button { border-color: var(--accent); color: var(--accent); font-weight: 650; cursor: pointer; }

.scroll { margin: 1rem -1.25rem 0; padding: 0 1.25rem; overflow-x: auto; }
.table { width: 100%; border-collapse: collapse; font-size: 0.9375rem; }
.table th, .table td { padding: 0.625rem 0.75rem; border-bottom: 1px solid var(--line); text-align: start; vertical-align: top; }
.table thead th { color: var(--soft); font-size: 0.8125rem; font-weight: 600; white-space: nowrap; }
.table tbody th { font-weight: 600; }
.table .number { text-align: end; }
.table tbody:last-child tr:last-child > *, .table tfoot tr:last-child > * { border-bottom: 0; }
.table tfoot > tr > * { border-top: 2px solid var(--line); font-weight: 700; }
.table small { display: block; color: var(--soft); font-size: 0.8125rem; font-weight: 400; }
.alarm { color: var(--bad); font-weight: 750; }

.figures { display: grid; grid-template-columns: repeat(2, 1fr); gap: 0.75rem; margin: 0 0 1.25rem; }
@media (min-width: 40rem) { .figures { grid-template-columns: repeat(3, 1fr); } }
.figure { margin: 0; padding: 1rem; border: 1px solid var(--line); border-radius: var(--radius); background: var(--card); }
.figure dt { color: var(--soft); font-size: 0.875rem; }
.figure.good dd { color: var(--good); }
.figure.bad { border-color: var(--bad); background: var(--bad-soft); }
.figure.bad dd { color: var(--bad); }
.figure dd { margin: 0; font-size: 1.625rem; font-weight: 750; font-variant-numeric: tabular-nums; letter-spacing: -0.02em; }

.figure .meaning { color: var(--soft); font-size: 0.8125rem; font-weight: 400; letter-spacing: 0; }
details.card { padding-block: 0.25rem; }
details.card[open] { padding-bottom: 1.25rem; }
summary { display: flex; align-items: center; min-height: 56px; font-weight: 650; cursor: pointer; }
summary::before { content: ""; flex: none; width: 0.5rem; height: 0.5rem; margin-right: 0.875rem; border: solid var(--soft); border-width: 0 2px 2px 0; transform: rotate(-45deg); }
[open] > summary::before { transform: rotate(45deg); }

.footer { width: 100%; max-width: 42rem; margin: 0 auto; padding: 0 1.25rem 1.5rem; color: var(--soft); font-size: 0.9375rem; }
.wide .footer { max-width: 76rem; }
.footer p { margin: 0; }

@media (prefers-reduced-motion: reduce) {
  *, *::before, *::after { transition: none !important; animation: none !important; }
}
@media (forced-colors: active) {
  .bar { background: Canvas; border: 1px solid CanvasText; }
  .bar rect, .leading .bar rect, .curve path { fill: Highlight; }
  .choice[aria-pressed="true"], .choice.chosen { border-width: 5px; }
}
`;

/**
 * Returns rules that give a page the accent of its poll, and neutral colours instead of the tints of the default accent. The polls
 * file admits only accents that are legible on these, see `SURFACES` in `stack/runtime/polls.ts`.
 */
export function accentStyle({ light, dark }: { readonly light: string; readonly dark: string }): string {
  return `
:root { --accent: ${light}; --accent-soft: var(--paper); --glow: var(--paper); --rest: var(--line-strong); }
@media (prefers-color-scheme: dark) { :root { --accent: ${dark}; } }
`;
}
