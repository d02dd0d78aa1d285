import type { Awaited } from '#db/final.ts';
import type { NodeState as EnrolledNode } from '#db/nodes.ts';
import type { PollState } from '#db/poll-states.ts';
import { nodeOf, startOf } from '#job';
import type { NodeState } from './queues.ts';
import { nodeLabel } from './report.ts';

/** `closing`: its time to close has passed, and a handler may still accept votes. `closed`: none does, and it is not final yet. */
type PollPhase = 'not open' | 'open' | 'closing' | 'closed' | 'final' | 'forgotten';

/** How many of the nodes or handlers have the present revision of a poll, and who has not. */
interface Share {
  readonly taken: number;
  readonly of: number;
  /** Nodes by their label, handlers by their source. */
  readonly missing: readonly string[];
}

/** A poll as operators see it. */
export interface PollReport extends PollState {
  readonly phase: PollPhase;
  readonly nodes: Share;
  readonly handlers: Share;
  /** Milliseconds from the last change until the last handler that ran then had applied it; null until all have, or if none ran. */
  readonly takenMs: number | null;
}

/** The parts of the system that a report of polls needs, as read at the same time. */
export interface PollInputs {
  readonly polls: readonly PollState[];
  readonly awaited: ReadonlyMap<string, Awaited>;
  readonly enrolled: readonly EnrolledNode[];
  readonly nodes: readonly NodeState[];
}

/**
 * Returns the polls with their phase, and who has taken their last change: nodes in use hold the revision in their Redis, and
 * handlers that are connected to one have recorded it there. A frozen handler is connected; one that has ended is not.
 *
 * @param now in milliseconds since 1970
 */
export function reportPolls({ polls, awaited, enrolled, nodes }: PollInputs, now: number): PollReport[] {
  const readings = new Map(nodes.flatMap((node) => (node.id === undefined ? [] : [[node.id, node]])));
  const inUse = enrolled.filter(({ state }) => state === 'enrolled');
  const skews = new Map(enrolled.map(({ id, clockSkewMs }) => [id, clockSkewMs ?? 0]));
  const handlers = nodes.flatMap((node) => (node.fault === undefined ? [...node.handlers] : []));
  return polls.map((poll) => {
    const { id, revision, change } = poll;
    const hasNode = (node: EnrolledNode): boolean => (readings.get(node.id)?.polls.get(id) ?? 0) >= revision;
    const appliedBy = handlers.map(([source, applied]) => ({ source, applied: applied.get(id) }));
    const missing = appliedBy.filter(({ applied }) => (applied?.revision ?? 0) < revision);
    const share = {
      nodes: shareOf(
        inUse.length,
        inUse.filter((node) => !hasNode(node)).map((node) => nodeLabel(node)),
      ),
      handlers: shareOf(
        handlers.length,
        missing.map(({ source }) => source),
      ),
    };
    const isTaken = share.nodes.missing.length + missing.length === 0;
    // A handler that started after the change has applied it late, but delayed nothing.
    const delays = appliedBy
      .filter(({ source }) => change !== null && startOf(source) < change.at)
      .map(
        ({ source, applied }) => (applied?.at ?? 0) - (skews.get(nodeOf(source).id) ?? 0) - (change?.at ?? 0),
      );
    const takenMs = isTaken && delays.length > 0 ? Math.max(0, ...delays) : null;
    return { ...poll, phase: phaseOf(poll, awaited.get(id), now), ...share, takenMs };
  });
}

function shareOf(of: number, missing: readonly string[]): Share {
  return { taken: of - missing.length, of, missing };
}

function phaseOf(poll: PollState, awaited: Awaited | undefined, now: number): PollPhase {
  const { opensAt, closesAt, closedAt, finalAt, forgottenAt } = poll;
  if (finalAt !== null) return forgottenAt === null ? 'final' : 'forgotten';
  const isSealed = awaited !== undefined && awaited.nodes.length + awaited.unsealed.length === 0;
  if (closedAt !== null) return isSealed ? 'closed' : 'closing';
  if (closesAt !== null && closesAt <= now) return 'closing';
  return opensAt !== null && opensAt > now ? 'not open' : 'open';
}

/** Names in a sentence. */
const NAMED_MAX = 10;

/** Returns who has taken the last change of a poll, in a sentence. */
export function takenSentence({ nodes, handlers, takenMs }: PollReport): string {
  const shares = `${nodes.taken} of ${nodes.of} nodes and ${handlers.taken} of ${handlers.of} handlers`;
  const missing = [...nodes.missing, ...handlers.missing];
  if (missing.length > 0) {
    const more = missing.length > NAMED_MAX ? ` and ${missing.length - NAMED_MAX} more` : '';
    return `Taken by ${shares}; not yet by ${missing.slice(0, NAMED_MAX).join(', ')}${more}.`;
  }
  return `Taken by ${shares}${takenMs === null ? '' : `, within ${(takenMs / 1_000).toFixed(1)} s`}.`;
}

/** Returns when a poll opens and closes, has closed and became final, and whether its result is embargoed until then. */
export function timesOf({
  opensAt,
  closesAt,
  closedAt,
  finalAt,
  forgottenAt,
  results,
}: PollReport): string[] {
  return [
    ...(opensAt === null ? [] : [`opens ${utc(opensAt)}`]),
    ...(closedAt !== null
      ? [`closed ${utc(closedAt)}`]
      : closesAt === null
        ? []
        : [`closes ${utc(closesAt)}`]),
    ...(finalAt === null ? [] : [`final ${utc(finalAt)}`]),
    ...(forgottenAt === null ? [] : [`forgotten ${utc(forgottenAt)}`]),
    ...(results === 'closed' && finalAt === null ? ['embargoed until it is final'] : []),
  ];
}

/** Returns the last change of a poll: when, who, what and why. */
export function changeSentence({ change }: PollReport): string {
  if (change === null) return 'No change is recorded.';
  const sentence = `Last change ${utc(change.at)} by ${change.who}: ${change.what} (${change.why}).`;
  // What operators write must neither begin a line nor control a terminal.
  return sentence.replaceAll(/\p{Cc}+/gu, ' ');
}

/** Returns polls as text, a few lines each. The first word of a line that is not indented is the id. */
export function pollsText(polls: readonly PollReport[]): string {
  return polls
    .map((poll) => {
      const { id, phase, revision, isHidden, isListed } = poll;
      const marks = [...(isHidden ? ['hidden'] : []), ...(isListed ? [] : ['not in the polls file'])];
      const times = timesOf(poll);
      return [
        [`${id}  ${phase}`, `revision ${revision}`, ...marks].join(', '),
        ...(times.length === 0 ? [] : [times.join(', ')]),
        takenSentence(poll),
        changeSentence(poll),
      ].join('\n  ');
    })
    .join('\n');
}

/** Returns a time for people, to the second. */
function utc(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')} UTC`;
}
