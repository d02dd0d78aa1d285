import { createLog, type Log } from '#runtime/log.ts';

/** Returns a log that records its lines, parsed. */
export function recordLog(): { readonly log: Log; readonly lines: Record<string, unknown>[] } {
  const lines: Record<string, unknown>[] = [];
  const log = createLog('test', (line) => lines.push(JSON.parse(line) as Record<string, unknown>));
  log.setLevel('debug');
  return { log, lines };
}
