import { CLOCK_SKEW_MS_WARNED } from './nodes-cards.ts';
import type { AuditView, NodeView } from './view.ts';

/** Share of memory from which the page warns; handlers refuse votes at 90 %. */
export const MEMORY_SHARE_WARNED = 0.75;

/** Age of a worker's last reading of a node from which the page warns. Workers read every node each second. */
const UNREAD_MS_WARNED = 30_000;

/** Nodes named in one sentence. */
const NAMED_MAX = 5;

/** What is wrong, and what an operator does about it. */
export interface Advice {
  readonly fault: string;
  readonly action: string;
}

/** Returns what an operator has to do, the most urgent first; empty when nothing is wrong. */
export function adviceOf(view: AuditView): Advice[] {
  const { total, queues, nodes, postgres } = view;
  const asOf = Date.parse(view.asOf);
  const inUse = nodes.filter(({ state }) => state !== 'retired' && state !== 'written off');
  const up = queues.filter(({ reachable }) => reachable);
  return [
    when(total.lost > 0, {
      fault: 'Accepted votes are lost.',
      action:
        'Keep the disks of the nodes, and search the lost jobs listed below in backups and failed jobs.',
    }),
    when(!postgres.reachable, {
      fault: 'Postgres is down.',
      action: 'Start it. Nodes keep the votes meanwhile, as long as their memory lasts.',
    }),
    aboutQueues(
      'Redis does not write votes to its disk',
      up.filter(({ appendOnlyFile }) => appendOnlyFile === 'off' || appendOnlyFile === 'failing'),
      'Check whether its disk is full or read-only, and turn its append-only file on.',
    ),
    aboutQueues(
      'The memory of Redis is nearly full',
      up.filter(({ memory }) => memory.max > 0 && memory.used > memory.max * MEMORY_SHARE_WARNED),
      'Check that workers run and commit, or add a node. Handlers refuse votes at 90 %.',
    ),
    aboutNodes(
      'Not reachable',
      inUse.filter(({ reachable }) => !reachable),
      'Repair its Redis or its network; results wait for it. Write it off only if its disk is gone.',
    ),
    aboutQueues(
      'Not enrolled',
      up.filter(({ node }) => node === null),
      'Check that workers run: a worker enrolls it, and its handlers accept no vote before.',
    ),
    when(total.failed > 0, {
      fault: 'Jobs have failed.',
      action:
        'Read their errors in the queues, then retry them there or write them off on the page of their node.',
    }),
    ...(postgres.reachable
      ? [
          aboutNodes(
            'Not read by a worker for over 30 s',
            inUse.filter(
              ({ reachable, readAt }) =>
                reachable && (readAt === null || asOf - Date.parse(readAt) > UNREAD_MS_WARNED),
            ),
            'Check that workers run and that they reach it.',
          ),
        ]
      : []),
    aboutNodes(
      'The clock is wrong',
      inUse.filter(({ clockSkewMs }) => Math.abs(clockSkewMs ?? 0) > CLOCK_SKEW_MS_WARNED),
      'Repair its time synchronization: polls open and close there at the wrong time.',
    ),
  ].filter((advice) => advice !== undefined);
}

function when(isWrong: boolean, advice: Advice): Advice | undefined {
  return isWrong ? advice : undefined;
}

function aboutNodes(fault: string, nodes: readonly NodeView[], action: string): Advice | undefined {
  const names = nodes.map(({ name }) => name);
  return when(names.length > 0, { fault: `${fault}: ${listed(names)}.`, action });
}

function aboutQueues(fault: string, queues: AuditView['queues'], action: string): Advice | undefined {
  const names = queues.map(({ name, address }) => name ?? address);
  return when(names.length > 0, { fault: `${fault}: ${listed(names)}.`, action });
}

function listed(names: readonly string[]): string {
  const more = names.length - NAMED_MAX;
  return `${names.slice(0, NAMED_MAX).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
