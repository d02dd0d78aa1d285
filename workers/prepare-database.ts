import { setTimeout as sleep } from 'node:timers/promises';
import type { Db } from '#db/client.ts';
import { grantReaders } from '#db/grants.ts';
import { migrate } from '#db/migrate.ts';
import { upsertPolls } from '#db/polls.ts';
import { replayRejectedVotes } from '#db/replay.ts';
import type { Poll } from '#runtime/polls.ts';
import type { ProcessParts } from '#runtime/process.ts';
import type { Readiness } from '#runtime/readiness.ts';

const RETRY_DELAY_MS = 1_000;

/**
 * Waits for Postgres, then migrates, grants, upserts the polls, and counts the votes that arrived before their poll.
 * Retries until it succeeds or the process stops.
 *
 * A newer release may have migrated the schema already: during its update, or before it was rolled back. Then this worker
 * drains all the same, and leaves the grants alone: it would revoke those that the newer release needs.
 */
export async function prepareDatabase(
  db: Db,
  polls: readonly Poll[],
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
      await upsertPolls(db, polls);
      const votes = await replayRejectedVotes(db);
      if (votes > 0) log.info('rejected votes replayed', { votes });
      readiness.ready('postgres');
      return;
    } catch (error) {
      log.repeated('database not ready, retrying', { error });
      readiness.notReady('postgres', (error as Error).message);
      await sleep(RETRY_DELAY_MS);
    }
  }
}
