import { createHash } from 'node:crypto';
import type { PollResult } from '#db/results.ts';
import { toCsv } from './csv.ts';
import type { Snapshot } from './feed.ts';
import { resultsPage } from './page.ts';
import type { RenderedEvent } from './streams.ts';
import { resultView } from './view.ts';

/** The text of a response and its entity tag. */
export interface Rendering extends RenderedEvent {
  readonly etag: string;
}

/** Renders each text of a snapshot once, for any number of viewers. */
export class Renderings {
  readonly #bySnapshot = new WeakMap<Snapshot, Map<string, Rendering>>();

  page(snapshot: Snapshot): Rendering {
    return this.#render(snapshot, 'page', () => ({ body: resultsPage(snapshot) }));
  }

  json(snapshot: Snapshot, poll: PollResult): Rendering {
    return this.#render(snapshot, `json ${poll.poll}`, () => {
      const view = resultView(poll, snapshot);
      return { body: JSON.stringify(view), content: JSON.stringify({ ...view, asOf: undefined }) };
    });
  }

  csv(snapshot: Snapshot, poll: PollResult): Rendering {
    return this.#render(snapshot, `csv ${poll.poll}`, () => ({ body: toCsv(resultView(poll, snapshot)) }));
  }

  #render(snapshot: Snapshot, key: string, render: () => { body: string; content?: string }): Rendering {
    const known = this.#bySnapshot.get(snapshot) ?? new Map<string, Rendering>();
    this.#bySnapshot.set(snapshot, known);
    let rendering = known.get(key);
    if (!rendering) {
      const { body, content = body } = render();
      rendering = { body, content, etag: `"${createHash('sha256').update(body).digest('base64url')}"` };
      known.set(key, rendering);
    }
    return rendering;
  }
}
