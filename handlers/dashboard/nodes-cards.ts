import { html } from 'hono/html';
import type { Html } from '../web/layout.ts';
import { alarmCell, card, dateTime, NUMBER, numberHeads } from './html.ts';
import type { AuditView, NodeView } from './view.ts';

/** Clock skew from which the page warns; workers report it from the same value on. */
export const CLOCK_SKEW_MS_WARNED = 1_000;

/** Lists every node ever enrolled. */
export function enrolledCard({ nodes }: AuditView): Html {
  return card(
    'enrolled',
    'Nodes',
    'every node that was ever enrolled; uncounted votes according to Postgres',
    html`<thead><tr><th scope="col">Node</th><th scope="col">State</th><th scope="col">Last read</th>${numberHeads(['Clock skew', 'Uncounted votes'])}<th scope="col">Change</th></tr></thead>
<tbody>${nodes.map(enrolledRow)}</tbody>`,
  );
}

function enrolledRow(node: NodeView): Html {
  const { node: id, name, readAt, clockSkewMs, uncountedVotes } = node;
  const isSkewed = Math.abs(clockSkewMs ?? 0) > CLOCK_SKEW_MS_WARNED;
  return html`
<tr><th scope="row">${name}<small>${id}</small></th><td>${stateOf(node)}</td><td>${
    readAt === null ? html`<span class="alarm">never</span>` : dateTime(readAt)
  }</td><td class="${isSkewed ? 'number alarm' : 'number'}">${clockSkewMs === null ? '' : `${NUMBER.format(clockSkewMs)} ms`}</td>${alarmCell(uncountedVotes)}<td>${
    isChangeable(node)
      ? html`<a id="change-${id}" href="/nodes/${id}" aria-label="Retire or write off ${name} (${id})">Retire or write off</a>`
      : ''
  }</td></tr>`;
}

/** Returns the state as a badge, with what an operator needs about it. */
export function stateOf({ state, reachable, writtenOffReason }: NodeView): Html {
  const isGood = state === 'enrolled' && reachable;
  const badge = html`<span class="${isGood ? 'badge good' : 'badge'}">${state.slice(0, 1).toUpperCase()}${state.slice(1)}</span>`;
  if (writtenOffReason !== null) return html`${badge} <small>${writtenOffReason}</small>`;
  if (state === 'retired' || reachable) return badge;
  return html`${badge} <small>not reachable now; results wait for it</small>`;
}

/** Returns whether an operator may retire the node or write it off. */
export function isChangeable({ state, enrolledAt }: NodeView): boolean {
  return state !== 'retired' && enrolledAt !== null;
}

/** Lists the sources found on nodes that are not theirs. */
export function foreignCard({ foreign }: AuditView): Html | '' {
  if (foreign.length === 0) return '';
  return html`<p class="notice error" role="alert">Some nodes hold data of other nodes' sources. Workers do not count it, but a handler or its Redis may be compromised.</p>${card(
    'foreign',
    'Sources on a node that is not theirs',
    'found in the ledger or in the queue of the node',
    html`<thead><tr><th scope="col">Source</th><th scope="col">Found at</th><th scope="col">In the ledger</th>${numberHeads(['Jobs'])}</tr></thead>
<tbody>${foreign.map(
      ({ source, address, isInLedger, jobs }) => html`
<tr><th scope="row">${source}</th><td>${address}</td><td>${isInLedger ? 'yes' : 'no'}</td>${alarmCell(jobs)}</tr>`,
    )}</tbody>`,
  )}`;
}
