import { setTimeout as sleep } from 'node:timers/promises';
import type { Db } from '#db/client.ts';
import { readAwaited } from '#db/final.ts';
import { readNodes } from '#db/nodes.ts';
import { readPollStates } from '#db/poll-states.ts';
import { type PollReport, reportPolls } from './polls.ts';
import type { NodeQueues } from './queues.ts';

/** Longest wait until every node and handler has taken a change; they need about two seconds. */
const TAKEN_MS_MAX = 10_000;
const LOOK_INTERVAL_MS = 250;

/** Returns all polls as they are now. */
export async function readPolls(db: Db, queues: NodeQueues): Promise<PollReport[]> {
  const nodes = await Promise.all(queues.all.map((queue) => queue.read(false)));
  const [polls, awaited, enrolled] = await Promise.all([readPollStates(db), readAwaited(db), readNodes(db)]);
  return reportPolls({ polls, awaited, enrolled, nodes }, Date.now());
}

/** Returns the poll that was changed, once everything has taken it or `TAKEN_MS_MAX` has passed; empty if there is none. */
export async function untilTaken(db: Db, queues: NodeQueues, changed: string): Promise<PollReport[]> {
  const deadline = Date.now() + TAKEN_MS_MAX;
  for (;;) {
    const found = (await readPolls(db, queues)).filter(({ id }) => id === changed);
    if (found.every(isTaken) || Date.now() > deadline) return found;
    await sleep(LOOK_INTERVAL_MS);
  }
}

/** Whether every node and handler has taken the last change of the poll. */
export function isTaken({ nodes, handlers }: PollReport): boolean {
  return nodes.missing.length + handlers.missing.length === 0;
}
