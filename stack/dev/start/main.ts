import { join } from 'node:path';
import { ROOT } from '../root.ts';
import { listenForSignals } from '../signals.ts';
import { coloured, plain, Terminal } from '../terminal.ts';
import { readEnvironment } from './environment.ts';
import { HELP, parseOptions } from './options.ts';
import { runSystem } from './system.ts';

// EPIPE, after the terminal or a `| head` has closed, must not end this process before its children have stopped.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});

process.exitCode = await main();
process.exit();

async function main(): Promise<number> {
  let terminal = new Terminal(process.stdout, process.stderr, plain);
  try {
    const environment = readEnvironment();
    const hasColours = process.stdout.isTTY && !environment.noColor;
    terminal = new Terminal(process.stdout, process.stderr, hasColours ? coloured : plain);
    const options = parseOptions(process.argv.slice(2));
    if (options === 'help') {
      terminal.line(HELP);
      return 0;
    }
    return await runSystem({
      options,
      environment,
      terminal,
      interrupt: listenForSignals(),
      build: { command: process.execPath, args: [join(ROOT, 'handlers/build.ts')] },
      dist: join(ROOT, 'dist'),
      pollsFile: join(ROOT, 'stack/polls.json'),
    });
  } catch (error) {
    terminal.error(error);
    return 1;
  }
}
