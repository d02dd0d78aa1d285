import { html } from 'hono/html';
import { page } from '../web/layout.ts';
import { PROBLEMS, type ProblemKind } from '../web/problems.ts';
import { type Rendering, renderingOf } from './renderings.ts';

/** Returns the page of each problem, to which its `type` links, by the problem's code. */
export function renderProblemPages(): ReadonlyMap<string, Rendering> {
  return new Map(
    Object.entries(PROBLEMS).map(([code, kind]) => [code, renderingOf(problemPage(code, kind))]),
  );
}

function problemPage(code: string, { status, title, cause, remedy }: ProblemKind): string {
  return String(
    page({
      title,
      main: html`
<h1>${title}</h1>
<p class="lede">Status ${status}, code <code>${code}</code></p>
<section class="card" aria-labelledby="cause">
<h2 id="cause">What happened</h2>
<p>${cause}</p>
</section>
<section class="card" aria-labelledby="remedy">
<h2 id="remedy">What to do</h2>
<p>${remedy}</p>
</section>`,
      footer: html`<p>The <a href="../openapi.json">API description</a> lists every problem.</p>`,
    }),
  );
}
