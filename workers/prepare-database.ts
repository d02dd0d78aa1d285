import { setTimeout as sleep } from 'node:timers/promises';
import type { Db } from '#db/client.ts';
import { grantReaders } from '#db/grants.ts';
import { migrate } from '#db/migrate.ts';
import { applyPollsFile } from '#db/polls.ts';
import type { PollsFile } from '#runtime/polls.ts';
import type { ProcessParts } from '#runtime/process.ts';
import type { Readiness } from '#runtime/readiness.ts';

const RETRY_DELAY_MS = 1_000;

/**
 * Waits for Postgres, then migrates, grants, and applies the polls file. Retries until it succeeds or the process stops.
 *
 * A newer release may have migrated the schema already: during its update, or before it was rolled back. Then this worker
 * drains all the same, and leaves the grants alone: it would revoke those that the newer release needs.
 */
export async function prepareDatabase(
  db: Db,
  polls: PollsFile,
  readiness: Readiness,
  { log, shutdown }: ProcessParts,
): Promise<void> {
  let isNewerLogged = false;
  while (!shutdown.isStopping) {
    try {
      const { applied, unknown } = await migrate(db);
      if (applied.length > 0) log.info('schema migrated', { migrations: applied });
      const isNewer = unknown.length > 0;
      if (isNewer && !isNewerLogged) log.warn('schema is newer', { migrations: unknown });
      isNewerLogged ||= isNewer;
      if (!isNewer) await grantReaders(db);
      const outcome = await applyPollsFile(db, polls);
      const { version } = polls;
      if (outcome === 'applied') log.info('polls file applied', { version });
      if (outcome === 'older') log.warn('polls file ignored: a higher version has been applied', { version });
      if (outcome === 'conflict') {
        log.error('polls file ignored: this version has been applied with other content, raise it', {
          version,
        });
      }
      if (typeof outcome === 'object') {
        log.error('polls file refused, nothing of it applied', {
          version,
          faults: outcome.refused.join('; '),
        });
      }
      readiness.ready('postgres');
      return;
    } catch (error) {
      log.repeated('database not ready, retrying', { error });
      readiness.notReady('postgres', (error as Error).message);
      await sleep(RETRY_DELAY_MS);
    }
  }
}
