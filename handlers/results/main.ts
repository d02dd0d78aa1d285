import { openDb } from '#db/client.ts';
import { readHistory } from '#db/history.ts';
import { readEvidence, readReceipt, readResults } from '#db/results.ts';
import { createAdminApp } from '#runtime/admin.ts';
import { readConfig, settings } from '#runtime/config.ts';
import { createMetrics } from '#runtime/metrics.ts';
import { runProcess } from '#runtime/process.ts';
import { Readiness } from '#runtime/readiness.ts';
import { ACCEPTORS_FOR_A_CROWD, listen } from '#runtime/server.ts';
import { createResultsApp } from './app.ts';
import { Feed, READ_INTERVAL_MS } from './feed.ts';
import { createResultsMetrics } from './metrics.ts';
import { Streams } from './streams.ts';

const SETTINGS = {
  port: settings.port(8081),
  adminPort: settings.adminPort(9081),
  databaseUrl: settings.databaseUrl,
  receiptsUrl: settings.receiptsUrl,
  voteUrl: settings.voteUrl,
  logLevel: settings.logLevel,
};

const STATEMENT_MS_MAX = 2_000;
/** Receipts and evidence use a separate pool, so that results never wait behind them. */
const RESULTS_CONNECTIONS_MAX = 1;
const RECEIPT_CONNECTIONS_MAX = 4;

await runProcess('results', async ({ log, shutdown }) => {
  const config = readConfig(SETTINGS);
  log.setLevel(config.logLevel);

  const readiness = new Readiness('postgres', 'server');
  const registry = createMetrics('results', readiness);
  const admin = await listen(createAdminApp(readiness, registry), config.adminPort);
  shutdown.defer('close the admin port', admin.close);

  const open = (name: string, connectionsMax: number) => {
    const db = openDb({
      url: config.databaseUrl.reveal(),
      connectionsMax,
      statementMsMax: STATEMENT_MS_MAX,
      name,
      onIdleError: (error) => log.repeated('idle Postgres connection broke', { error }),
    });
    shutdown.defer(`close the connections of ${name}`, () => db.destroy());
    return db;
  };
  const resultsDb = open('turnout-results', RESULTS_CONNECTIONS_MAX);
  const receiptsDb = open('turnout-receipts', RECEIPT_CONNECTIONS_MAX);

  const feed = new Feed({
    read: () => readResults(resultsDb),
    readHistory: () => readHistory(resultsDb),
    log,
    onRead: (outcome) => metrics.onRead(outcome),
  });
  const streams = new Streams({ feed });
  const metrics = createResultsMetrics(registry, {
    snapshotAsOf: () => feed.last?.asOf,
    streamsOpen: () => streams.open,
  });

  const app = createResultsApp({
    feed,
    streams,
    readReceipt: (receipt) => readReceipt(receiptsDb, receipt),
    readEvidence: (poll) => readEvidence(receiptsDb, poll),
    resultsUrl: config.receiptsUrl,
    voteUrl: config.voteUrl,
    log,
    onReceipt: metrics.onReceipt,
  });
  const server = await listen(app, config.port, { acceptors: ACCEPTORS_FOR_A_CROWD });
  shutdown.defer('finish open requests', server.close);
  shutdown.defer('end streams', () => streams.close());

  // After the first read there is always a snapshot to show, so this process stays ready.
  const firstRead = setInterval(() => void tryFirstRead(), READ_INTERVAL_MS);
  const tryFirstRead = async (): Promise<void> => {
    try {
      await feed.latest();
      readiness.ready('postgres');
      clearInterval(firstRead);
    } catch (error) {
      readiness.notReady('postgres', (error as Error).message);
    }
  };
  await tryFirstRead();
  shutdown.defer('take no more work', () => {
    clearInterval(firstRead);
    readiness.notReady('server', 'stopping');
  });
  readiness.ready('server');
  log.info('listening', { port: server.port });
});
