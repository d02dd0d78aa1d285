import { setTimeout as sleep } from 'node:timers/promises';
import { type Db, openDb } from '#db/client.ts';
import { commitBatches } from '#db/commit.ts';
import { grantReaders } from '#db/grants.ts';
import { countLatePolls } from '#db/late-polls.ts';
import { mirrorLedger } from '#db/ledgers.ts';
import { migrate } from '#db/migrate.ts';
import { upsertPolls } from '#db/polls.ts';
import { createAdminApp } from '#runtime/admin.ts';
import { readConfig, settings } from '#runtime/config.ts';
import { discoverNodes } from '#runtime/discovery.ts';
import { createMetrics } from '#runtime/metrics.ts';
import { type Poll, readPolls } from '#runtime/polls.ts';
import { type ProcessParts, runProcess } from '#runtime/process.ts';
import { Readiness } from '#runtime/readiness.ts';
import { listen } from '#runtime/server.ts';
import { Committer, LANES } from './committer.ts';
import { createWorkerMetrics } from './metrics.ts';
import { LedgerMirror } from './mirror.ts';
import { NodePool } from './node-pool.ts';

const STATEMENT_MS_MAX = 30_000;
const PREPARE_RETRY_MS = 1_000;
/** How long a stop waits for the commits in hand. */
const FINISH_MS_MAX = 15_000;

await runProcess('worker', async (parts) => {
  const { log, shutdown } = parts;
  const config = readConfig({
    adminPort: settings.adminPort(9083),
    queueNodes: settings.queueNodes,
    databaseUrl: settings.databaseUrl,
    pollsFile: settings.pollsFile,
    logLevel: settings.logLevel,
  });
  log.setLevel(config.logLevel);
  const discover = discoverNodes(config.queueNodes);
  const polls = readPolls(config.pollsFile);
  const registry = createMetrics('worker');
  const readiness = new Readiness('postgres', 'nodes');
  const admin = await listen(createAdminApp(readiness, registry), config.adminPort);
  shutdown.defer('close the admin port', admin.close);

  const db = openDb({
    url: config.databaseUrl.reveal(),
    // One for each lane, one for the mirror of the ledgers.
    connectionsMax: LANES + 1,
    statementMsMax: STATEMENT_MS_MAX,
    name: 'turnout-worker',
    onIdleError: (error) => log.repeated('a connection to Postgres broke', { error }),
  });
  shutdown.defer('close the database', () => db.destroy());
  await prepare(db, polls, parts, readiness);
  if (shutdown.isStopping) return;

  const metrics = createWorkerMetrics(registry, () => fleet.nodes);
  const committer = new Committer({
    commit: (batches, shard) => commitBatches(db, batches, shard),
    log,
    onCommit: metrics.onCommit,
    onFault: (fault) => (fault ? readiness.notReady('postgres', fault) : readiness.ready('postgres')),
  });
  const mirror = new LedgerMirror((entries, readAt) => mirrorLedger(db, entries, readAt));
  const fleet = new NodePool({
    discover,
    count: (batch) => committer.submit(batch),
    onLedger: (node, ledger, readAt) => mirror.update(node, ledger, readAt),
    log,
  });
  shutdown.defer('finish the commits in hand', async () => {
    await fleet.stop(FINISH_MS_MAX);
    committer.stop();
  });
  await fleet.start();
  readiness.ready('nodes');
});

/** Waits for the database, however long that takes, and makes the tables, their readers and the polls what they should be. */
async function prepare(
  db: Db,
  polls: readonly Poll[],
  { log, shutdown }: ProcessParts,
  readiness: Readiness,
): Promise<void> {
  while (!shutdown.isStopping) {
    try {
      const applied = await migrate(db);
      if (applied.length > 0) log.info('migrated the schema', { applied });
      await grantReaders(db);
      await upsertPolls(db, polls);
      const late = await countLatePolls(db);
      if (late > 0) log.info('counted votes that were here before their poll', { votes: late });
      readiness.ready('postgres');
      return;
    } catch (error) {
      log.repeated('cannot prepare the database, trying again', { error });
      readiness.notReady('postgres', (error as Error).message);
      await sleep(PREPARE_RETRY_MS);
    }
  }
}
