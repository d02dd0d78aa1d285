import { ConfigError } from './config.ts';
import { createLog, type Log } from './log.ts';
import { Shutdown } from './shutdown.ts';

/** What every process has before it reads its configuration. */
export interface ProcessParts {
  readonly log: Log;
  readonly shutdown: Shutdown;
}

/**
 * Runs a composition root. A `ConfigError` is logged as one line, any other start error with its stack; both exit 1. An
 * uncaught error ends the process at once: its state can no longer be trusted, and its work is on disk.
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
    else log.error('start failed', { error });
    await shutdown.stop('start failed');
    process.exit(1);
  }
}
