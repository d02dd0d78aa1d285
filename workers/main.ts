import { openDb } from '#db/client.ts';
import { commitBatches } from '#db/commit.ts';
import { createAdminApp } from '#runtime/admin.ts';
import { readConfig, settings } from '#runtime/config.ts';
import { discoverNodes } from '#runtime/discovery.ts';
import { createMetrics } from '#runtime/metrics.ts';
import { readPollsFile } from '#runtime/polls.ts';
import { runProcess } from '#runtime/process.ts';
import { Readiness } from '#runtime/readiness.ts';
import { listen } from '#runtime/server.ts';
import { Committer, LANES } from './committer.ts';
import { Coordinator } from './coordinator.ts';
import { monitorDurability } from './durability-monitor.ts';
import { createWorkerMetrics } from './metrics.ts';
import { DRAIN_STOP_MS_MAX, NodePool } from './node-pool.ts';
import { prepareDatabase } from './prepare-database.ts';

const SETTINGS = {
  adminPort: settings.adminPort(9083),
  queueNodes: settings.queueNodes,
  databaseUrl: settings.databaseUrl,
  pollsFile: settings.pollsFile,
  logLevel: settings.logLevel,
};
const COMMIT_MS_MAX = 30_000;
const COORDINATION_MS_MAX = 5_000;

await runProcess('worker', async (parts) => {
  const { log, shutdown } = parts;
  const config = readConfig(SETTINGS);
  log.setLevel(config.logLevel);
  const discover = discoverNodes(config.queueNodes);
  const polls = readPollsFile(config.pollsFile);

  const readiness = new Readiness('postgres', 'nodes');
  const registry = createMetrics('worker', readiness);
  const admin = await listen(createAdminApp(readiness, registry), config.adminPort);
  shutdown.defer('close the admin port', admin.close);

  const onIdleError = (error: Error) => log.repeated('idle Postgres connection broke', { error });
  const db = openDb({
    url: config.databaseUrl.reveal(),
    // One for each lane, and one for the durability monitor.
    connectionsMax: LANES + 1,
    statementMsMax: COMMIT_MS_MAX,
    name: 'turnout-worker',
    requiresDurability: true,
    onIdleError,
  });
  shutdown.defer('close the database', () => db.destroy());
  await prepareDatabase(db, polls, readiness, parts);
  if (shutdown.isStopping) return;
  monitorDurability(db, readiness, parts);

  const metrics = createWorkerMetrics(registry, {
    nodes: () => pool.nodes,
    coordinator: () => coordinator,
  });
  const committer = new Committer({
    commit: (batches, shard) => commitBatches(db, batches, shard),
    isBehind: () => pool.isBehind,
    log,
    onCommit: metrics.onCommit,
    onRetry: metrics.onRetry,
    onFault: (reason) => (reason ? readiness.notReady('postgres', reason) : readiness.ready('postgres')),
  });
  const coordinatorDb = openDb({
    url: config.databaseUrl.reveal(),
    connectionsMax: 1,
    statementMsMax: COORDINATION_MS_MAX,
    name: 'turnout-coordinator',
    requiresDurability: true,
    onIdleError,
  });
  shutdown.defer("close the coordinator's connection", () => coordinatorDb.destroy());
  const pool = new NodePool({
    discover,
    submit: (batch) => committer.submit(batch),
    onForeignJob: metrics.onForeignJob,
    onStalledJob: metrics.onStalledJob,
    log,
  });
  const coordinator = new Coordinator({ db: coordinatorDb, registries: () => pool.registries, log });
  shutdown.defer('finish the active jobs', async () => {
    await pool.stop(DRAIN_STOP_MS_MAX);
    committer.stop();
  });
  // Stops first: another worker coordinates while this one finishes its jobs.
  shutdown.defer('stop the coordinator', () => coordinator.stop());
  await pool.start();
  coordinator.start();
  readiness.ready('nodes');
});
