import { plain, Terminal } from '#dev/terminal.ts';

interface Command<Options extends object> {
  /** Parses the command line. @throws StartError when it is wrong */
  readonly parse: (args: readonly string[]) => Options | 'help';
  readonly help: string;
  /** Runs it. @returns the exit code */
  readonly run: (options: Options, terminal: Terminal) => Promise<number>;
  /** The exit code after an error, which is shown. */
  readonly failureCode: number;
}

/** Runs a command with the arguments of this process, and exits: connections that are still open do not matter. */
export async function runCommand<Options extends object>(command: Command<Options>): Promise<never> {
  // A closed pipe, as after `| head`, is not an error.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
  process.exit(await exitCodeOf(command));
}

async function exitCodeOf<Options extends object>(command: Command<Options>): Promise<number> {
  const { parse, help, run, failureCode } = command;
  const terminal = new Terminal(process.stdout, process.stderr, plain);
  try {
    const options = parse(process.argv.slice(2));
    if (options !== 'help') return await run(options, terminal);
    terminal.line(help);
    return 0;
  } catch (error) {
    terminal.error(error);
    return failureCode;
  }
}
