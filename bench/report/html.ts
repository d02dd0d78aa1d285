import { escapeHtml } from './plot.ts';
import type { Table } from './table.ts';

/** Returns a self-contained page, light and dark; `body` is HTML. */
export function htmlPage(title: string, body: string): string {
  return `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escapeHtml(title)}</title>
<style>${STYLE}</style>
<main>${body}
</main></html>
`;
}

export function htmlTable({ headings, rows, textColumns }: Table): string {
  const line = (tag: string, cells: readonly string[]): string =>
    `<tr>${cells.map((cell, column) => `<${tag}${column < textColumns ? ' class="text"' : ''}>${escapeHtml(cell)}</${tag}>`).join('')}</tr>`;
  return `<div class="table"><table>${line('th', headings)}${rows.map((row) => line('td', row)).join('\n')}</table></div>`;
}

const STYLE = `
:root { color-scheme: light dark; --text: light-dark(#1d2330, #e6e9f0); --dim: light-dark(#667085, #98a2b3);
  --back: light-dark(#fbfbfd, #14171f); --line: light-dark(#dde1ea, #2b3140);
  --c0: light-dark(#3b5bdb, #748ffc); --c1: light-dark(#e8590c, #ff922b); --c2: light-dark(#2b8a3e, #69db7c);
  --c3: light-dark(#9c36b5, #da77f2); --c4: light-dark(#c92a2a, #ff8787); --c5: light-dark(#0b7285, #3bc9db);
  --c6: light-dark(#5c4813, #e0c46c); --c7: light-dark(#495057, #adb5bd); --c8: light-dark(#a61e4d, #f783ac); }
body { margin: 0; background: var(--back); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 900px; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1, h2 { line-height: 1.2; } section { margin-top: 3rem; } p { max-width: 75ch; }
figure { margin: 1.5rem 0; } figcaption { margin-bottom: .4rem; font-weight: 600; }
ul { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: .3rem 0 .8rem; padding: 0; list-style: none; color: var(--dim); }
li i { display: inline-block; width: .8em; height: .8em; margin-right: .4em; border-radius: 2px; background: var(--c); }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--text); dominant-baseline: middle; } svg rect { fill: var(--c); }
svg .label { text-anchor: end; } svg .tick { text-anchor: middle; } svg .label, svg .tick { fill: var(--dim); }
svg .line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; } svg .grid { stroke: var(--line); }
${Array.from({ length: 9 }, (_, index) => `.s${index} { --c: var(--c${index}); }`).join(' ')}
.table { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { color: var(--dim); font-weight: 500; } th.text, td.text { text-align: left; }
`;
