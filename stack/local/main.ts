import { join } from 'node:path';
import { readEnvironment } from './environment.ts';
import { HELP, parseOptions } from './options.ts';
import { coloured, plain, Screen } from './screen.ts';
import { listenForSignals } from './signals.ts';
import { runSystem } from './system.ts';

const CHECKOUT = join(import.meta.dirname, '../..');

// A terminal that was closed, or a `head` that has seen enough, must not end us before our children have stopped.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});

process.exitCode = await main();
process.exit();

async function main(): Promise<number> {
  let screen = new Screen(process.stdout, process.stderr, plain);
  try {
    const environment = readEnvironment();
    const isColourful = process.stdout.isTTY && !environment.noColor;
    screen = new Screen(process.stdout, process.stderr, isColourful ? coloured : plain);
    const options = parseOptions(process.argv.slice(2));
    if (options === 'help') {
      screen.line(HELP);
      return 0;
    }
    return await runSystem({
      options,
      environment,
      screen,
      interrupt: listenForSignals(),
      build: { command: process.execPath, args: [join(CHECKOUT, 'handlers/build.ts')] },
      dist: join(CHECKOUT, 'dist'),
      pollsFile: join(CHECKOUT, 'stack/polls.json'),
    });
  } catch (error) {
    screen.error(error);
    return 1;
  }
}
