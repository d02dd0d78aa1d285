import { type Db, openDb } from '#db/client.ts';
import { type ControlOutcome, closePoll, extendPoll, forgetPoll, openPoll, setEmbargo } from '#db/control.ts';
import { StartError } from '#dev/errors.ts';
import type { Terminal } from '#dev/terminal.ts';
import { connectNodes } from '../collect.ts';
import { pollsText } from '../polls.ts';
import { isTaken, readPolls, untilTaken } from '../taken.ts';
import { POLLS_HELP, type PollsCommand, type PollsOptions, parsePollsOptions } from './polls-options.ts';
import { runCommand } from './run.ts';
import { findTarget, readAuditEnvironment } from './target.ts';

const STATEMENT_MS_MAX = 30_000;
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
  const polls = 'poll' in command ? await untilTaken(db, queues, command.poll) : await readPolls(db, queues);
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
