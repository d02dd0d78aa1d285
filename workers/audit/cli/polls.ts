import { setTimeout as sleep } from 'node:timers/promises';
import { type Db, openDb } from '#db/client.ts';
import { type ControlOutcome, closePoll, extendPoll, forgetPoll, openPoll, setEmbargo } from '#db/control.ts';
import { readAwaited } from '#db/final.ts';
import { readNodes } from '#db/nodes.ts';
import { readPollStates } from '#db/poll-states.ts';
import { StartError } from '#dev/errors.ts';
import type { Terminal } from '#dev/terminal.ts';
import { connectNodes } from '../collect.ts';
import { type PollReport, pollsText, reportPolls } from '../polls.ts';
import type { NodeQueues } from '../queues.ts';
import { POLLS_HELP, type PollsCommand, type PollsOptions, parsePollsOptions } from './polls-options.ts';
import { runCommand } from './run.ts';
import { findTarget, readAuditEnvironment } from './target.ts';

const STATEMENT_MS_MAX = 30_000;
/** Longest wait until every node and handler has taken a change; they need about two seconds. */
const TAKEN_MS_MAX = 10_000;
const LOOK_INTERVAL_MS = 250;
const EXIT_CODES = { done: 0, refused: 1, notTaken: 2 } as const;

await runCommand({ parse: parsePollsOptions, help: POLLS_HELP, run, failureCode: EXIT_CODES.refused });

async function run(options: PollsOptions, terminal: Terminal): Promise<number> {
  const target = findTarget(options, readAuditEnvironment());
  const db = openDb({
    url: target.databaseUrl.reveal(),
    connectionsMax: 2,
    statementMsMax: STATEMENT_MS_MAX,
    name: 'turnout-polls',
    onIdleError: () => {},
  });
  const { command } = options;
  if (command.name !== 'list') {
    const result = await change(db, command);
    if (result.outcome === 'unchanged') terminal.line(`Nothing changed: ${result.reason}.`);
    else if (result.outcome !== 'done')
      throw new StartError(`${command.poll} does not change: ${result.reason}`);
  }
  const queues = await connectNodes(await target.discover());
  const polls = await untilTaken(db, queues, 'poll' in command ? command.poll : undefined);
  terminal.line(polls.length === 0 ? 'There is no poll.' : pollsText(polls));
  return command.name === 'list' || polls.every(isTaken) ? EXIT_CODES.done : EXIT_CODES.notTaken;
}

function change(db: Db, command: Exclude<PollsCommand, { name: 'list' }>): Promise<ControlOutcome> {
  const { poll, request } = command;
  switch (command.name) {
    case 'open':
      return openPoll(db, poll, request);
    case 'close':
      return closePoll(db, poll, request);
    case 'extend':
      return extendPoll(db, poll, command.extension, request);
    case 'embargo':
      return setEmbargo(db, poll, command.results, request);
    case 'forget':
      return forgetPoll(db, poll, request);
    default: {
      const never: never = command;
      throw new TypeError(`unknown command: ${String(never)}`);
    }
  }
}

/** Returns all polls as they are, or the one that was changed once everything has taken it or `TAKEN_MS_MAX` has passed. */
async function untilTaken(db: Db, queues: NodeQueues, changed: string | undefined): Promise<PollReport[]> {
  const deadline = Date.now() + TAKEN_MS_MAX;
  for (;;) {
    const nodes = await Promise.all(queues.all.map((queue) => queue.read(false)));
    const [polls, awaited, enrolled] = await Promise.all([
      readPollStates(db),
      readAwaited(db),
      readNodes(db),
    ]);
    const reports = reportPolls({ polls, awaited, enrolled, nodes }, Date.now());
    if (changed === undefined) return reports;
    const found = reports.filter(({ id }) => id === changed);
    if (found.every(isTaken) || Date.now() > deadline) return found;
    await sleep(LOOK_INTERVAL_MS);
  }
}

function isTaken({ nodes, handlers }: PollReport): boolean {
  return nodes.missing.length + handlers.missing.length === 0;
}
