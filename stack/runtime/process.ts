import { ConfigError } from './config.ts';
import { createLog, type Log } from './log.ts';
import { Shutdown } from './shutdown.ts';

/** What every process gets before it reads its configuration. */
export interface ProcessParts {
  readonly log: Log;
  readonly shutdown: Shutdown;
}

/**
 * Runs a composition root. A fault in the configuration or in an input file is one line and exit 1; an error that
 * nobody caught ends the process at once, because its state can no longer be trusted and its work is on disk.
 */
export async function runProcess(
  name: string,
  compose: (parts: ProcessParts) => Promise<void>,
): Promise<void> {
  const log = createLog(name);
  const shutdown = new Shutdown(log);
  const crash = (error: unknown): never => {
    log.error('crashed', { error });
    process.exit(1);
  };
  process.on('uncaughtException', crash);
  process.on('unhandledRejection', crash);
  shutdown.listen();
  try {
    await compose({ log, shutdown });
  } catch (error) {
    if (error instanceof ConfigError) log.error(error.message);
    else log.error('cannot start', { error });
    await shutdown.stop('cannot start');
    process.exit(1);
  }
}
