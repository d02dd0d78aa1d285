import { html } from 'hono/html';
import { changeSentence, type PollReport, reportPolls, takenSentence, timesOf } from '#audit/polls.ts';
import { nodeLabel } from '#audit/report.ts';
import type { Html } from '../web/layout.ts';
import { awaitedSentences } from './awaited.ts';
import type { LiveReport } from './live-audit.ts';

/** A poll, and what its final result awaits, in sentences; none for a poll that is open or final. */
export interface PollView extends PollReport {
  readonly reasons: readonly string[];
}

type PollTime = 'opensAt' | 'closesAt' | 'closedAt' | 'finalAt' | 'forgottenAt';

/** A poll in the API, with times in ISO 8601, `null` where there is none. */
export type PollJson = Omit<PollView, PollTime | 'change'> &
  Readonly<Record<PollTime, string | null>> & {
    readonly change: (Omit<NonNullable<PollView['change']>, 'at'> & { readonly at: string }) | null;
  };

/** Returns a poll for `GET /polls`. */
export function pollJson({ change, ...poll }: PollView): PollJson {
  return {
    ...poll,
    opensAt: isoOf(poll.opensAt),
    closesAt: isoOf(poll.closesAt),
    closedAt: isoOf(poll.closedAt),
    finalAt: isoOf(poll.finalAt),
    forgottenAt: isoOf(poll.forgottenAt),
    change: change && { ...change, at: new Date(change.at).toISOString() },
  };
}

function isoOf(milliseconds: number | null): string | null {
  return milliseconds === null ? null : new Date(milliseconds).toISOString();
}

/** Returns the polls of a report. Those that are hidden come last. */
export function pollViews(report: LiveReport): PollView[] {
  const { asOf, awaited, enrolled } = report;
  const nameOf = (id: string): string =>
    nodeLabel(enrolled.find((node) => node.id === id) ?? { id, name: id });
  return reportPolls(report, asOf)
    .map((poll) => {
      const what = awaited.get(poll.id);
      return { ...poll, reasons: what ? awaitedSentences(what, nameOf) : [] };
    })
    .toSorted((a, b) => Number(a.isHidden) - Number(b.isHidden));
}

/** Shows each poll: its state, its times, its last change and who has taken it. */
export function pollCards(polls: readonly PollView[]): Html {
  return html`${polls.map(
    (poll) => html`
<section class="card" aria-labelledby="poll-${poll.id}">
<header><h2 id="poll-${poll.id}">${poll.question}</h2>${phaseBadge(poll)}</header>
${pollState(poll)}
<footer><a id="change-poll-${poll.id}" href="/polls/${poll.id}">Change ${poll.id}</a></footer>
</section>`,
  )}`;
}

/** Returns the phase as a badge. */
export function phaseBadge({ phase }: PollView): Html {
  const isGood = phase === 'open' || phase === 'final';
  return html`<span class="${isGood ? 'badge good' : 'badge'}">${phase.slice(0, 1).toUpperCase()}${phase.slice(1)}</span>`;
}

/** Returns the state of a poll in sentences. */
export function pollState(poll: PollView): Html {
  const { id, revision, phase, isHidden, isListed, nodes, handlers, reasons } = poll;
  const isTaken = nodes.missing.length + handlers.missing.length === 0;
  const facts = [
    id,
    `revision ${revision}`,
    ...timesOf(poll),
    ...(isHidden ? ['hidden'] : []),
    ...(isListed ? [] : ['not in the polls file']),
  ];
  const isAwaited = phase === 'closing' || phase === 'closed';
  return html`<p class="muted">${facts.join(', ')}</p>
<p${isTaken ? '' : html` class="alarm"`}>${takenSentence(poll)}</p>
<p>${changeSentence(poll)}</p>
${
  isAwaited
    ? html`<p>Final once: ${reasons.length === 0 ? 'nothing is awaited; it becomes final within seconds.' : ''}</p>
<ul>${reasons.map((reason) => html`<li>${reason}</li>`)}</ul>`
    : ''
}`;
}
