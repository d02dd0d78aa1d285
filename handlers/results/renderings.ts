import { createHash } from 'node:crypto';
import type { PollResult } from '#db/results.ts';
import { toCsv } from './csv.ts';
import type { Snapshot } from './feed.ts';
import { resultsPage } from './page.ts';
import type { RenderedEvent } from './streams.ts';
import { resultView, type ShownResult } from './view.ts';
import { wallPage } from './wall.ts';

/** The text of a response and its entity tag, and of a page its headers. */
export interface Rendering extends RenderedEvent {
  readonly etag: string;
  readonly headers?: Readonly<Record<string, string>>;
}

interface Untagged extends Pick<Rendering, 'body' | 'headers'> {
  readonly content?: string;
}

/** Returns a text with its entity tag. */
export function renderingOf(body: string, content = body): Rendering {
  return { body, content, etag: `"${createHash('sha256').update(body).digest('base64url')}"` };
}

/** Renders each text of a snapshot once, for any number of viewers. */
export class Renderings {
  readonly #bySnapshot = new WeakMap<Snapshot, Map<string, Rendering>>();

  /** Returns the page of a poll, or of all that are listed. */
  page(snapshot: Snapshot, poll?: PollResult): Rendering {
    return this.#render(snapshot, poll ? `page ${poll.poll}` : 'page', () => resultsPage(snapshot, poll));
  }

  /** Returns the page of a poll for a large screen. @param voteUrl always the same */
  wall(snapshot: Snapshot, poll: PollResult, voteUrl?: string): Rendering {
    return this.#render(snapshot, `wall ${poll.poll}`, () => wallPage(snapshot, poll, voteUrl));
  }

  json(snapshot: Snapshot, poll: ShownResult): Rendering {
    return this.#render(snapshot, `json ${poll.poll}`, () => {
      const view = resultView(poll, snapshot);
      return { body: JSON.stringify(view), content: JSON.stringify({ ...view, asOf: undefined }) };
    });
  }

  csv(snapshot: Snapshot, poll: ShownResult): Rendering {
    return this.#render(snapshot, `csv ${poll.poll}`, () => ({ body: toCsv(resultView(poll, snapshot)) }));
  }

  #render(snapshot: Snapshot, key: string, render: () => Untagged): Rendering {
    const known = this.#bySnapshot.get(snapshot) ?? new Map<string, Rendering>();
    this.#bySnapshot.set(snapshot, known);
    let rendering = known.get(key);
    if (!rendering) {
      const { body, content, ...headers } = render();
      rendering = { ...headers, ...renderingOf(body, content) };
      known.set(key, rendering);
    }
    return rendering;
  }
}
