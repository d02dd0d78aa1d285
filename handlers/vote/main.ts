import cluster from 'node:cluster';
import { createAdminApp } from '#runtime/admin.ts';
import { type Config, readConfig, settings } from '#runtime/config.ts';
import { createMetrics } from '#runtime/metrics.ts';
import { type ProcessParts, runProcess } from '#runtime/process.ts';
import { Readiness } from '#runtime/readiness.ts';
import { parseRedisAddress } from '#runtime/redis.ts';
import { ACCEPTORS_FOR_A_CROWD, listen } from '#runtime/server.ts';
import { createVoteApp } from './app.ts';
import { createClock } from './clock.ts';
import { createVoteMetrics } from './metrics.ts';
import { aggregateMetrics, reportToPrimary, superviseProcesses } from './processes.ts';
import { openSource } from './source.ts';
import { createVoterTokens } from './voter.ts';

const SETTINGS = {
  port: settings.port(8080),
  adminPort: settings.adminPort(9080),
  node: settings.node,
  redisUrl: settings.redisUrl,
  voterKeys: settings.voterKeys,
  votesPerJobMax: settings.votesPerJobMax,
  captureBufferMax: settings.captureBufferMax,
  voterAdmission: settings.voterAdmission,
  challenge: settings.challenge,
  receiptsUrl: settings.receiptsUrl,
  webConcurrency: settings.webConcurrency,
  logLevel: settings.logLevel,
};

await runProcess('vote', async (parts) => {
  const config = readConfig(SETTINGS);
  parts.log.setLevel(config.logLevel);
  if (config.webConcurrency > 1 && cluster.isPrimary) await supervise(config, parts);
  else await serve(config, parts);
});

/** Runs several processes behind one port. This one supervises them and serves the admin port. */
async function supervise(config: Config<typeof SETTINGS>, { log, shutdown }: ProcessParts): Promise<void> {
  const readiness = new Readiness();
  const admin = await listen(createAdminApp(readiness, aggregateMetrics()), config.adminPort);
  shutdown.defer('close the admin port', admin.close);
  await superviseProcesses({ count: config.webConcurrency, readiness, log, shutdown });
}

async function serve(config: Config<typeof SETTINGS>, { log, shutdown }: ProcessParts): Promise<void> {
  const readiness = new Readiness('queue', 'node', 'server');
  const registry = createMetrics('vote', readiness);
  if (cluster.isWorker) {
    reportToPrimary(readiness, registry);
  } else {
    const admin = await listen(createAdminApp(readiness, registry), config.adminPort);
    shutdown.defer('close the admin port', admin.close);
  }

  const metrics = createVoteMetrics(registry, config.captureBufferMax);
  const { source, polls, capture } = await openSource({
    address: parseRedisAddress(config.redisUrl.reveal()),
    nodeName: config.node,
    votesPerJobMax: config.votesPerJobMax,
    bufferVotesMax: config.captureBufferMax,
    onWrite: metrics.onWrite,
    readiness,
    log,
    shutdown,
  });
  metrics.watch(() => capture.waitingVotes);
  const app = createVoteApp({
    polls,
    capture,
    tokens: createVoterTokens(...config.voterKeys),
    clock: createClock(Date.now, metrics.onFutureToken),
    admission: config.voterAdmission,
    challenge: config.voterAdmission === 'issued' ? config.challenge : undefined,
    resultsUrl: config.receiptsUrl,
    log,
    onProblem: metrics.onProblem,
  });
  const server = await listen(app, config.port, {
    // Several processes share one socket: connections waiting on a socket of a single process are lost when it is killed.
    acceptors: cluster.isWorker ? 1 : ACCEPTORS_FOR_A_CROWD,
  });
  shutdown.defer('finish the requests', server.close);
  shutdown.defer('become not ready', () => readiness.notReady('server', 'stopping'));
  readiness.ready('server');
  log.info('listening', { port: server.port, source, polls: polls.listed.length });
}
