import { collectAnomalies } from '#audit/anomalies.ts';
import { NodeQueues } from '#audit/queues.ts';
import { auditSources } from '#db/audit.ts';
import { openDb } from '#db/client.ts';
import { closePoll, extendPoll, forgetPoll, openPoll, setEmbargo } from '#db/control.ts';
import { readAwaited } from '#db/final.ts';
import { readNodes, requestRetirement, writeOffNode } from '#db/nodes.ts';
import { readPollStates } from '#db/poll-states.ts';
import { writeOffJobs } from '#db/write-off.ts';
import { createAdminApp } from '#runtime/admin.ts';
import { readConfig, settings } from '#runtime/config.ts';
import { discoverNodes } from '#runtime/discovery.ts';
import { createMetrics } from '#runtime/metrics.ts';
import { runProcess } from '#runtime/process.ts';
import { Readiness } from '#runtime/readiness.ts';
import { listen } from '#runtime/server.ts';
import { BOARD_PATH, createDashboardApp } from './app.ts';
import { createBoard } from './board.ts';
import { ANOMALIES_MS_MAX, LiveAnomalies } from './live-anomalies.ts';
import { LiveAudit } from './live-audit.ts';
import { createDashboardMetrics } from './metrics.ts';

const SETTINGS = {
  port: settings.port(8082),
  adminPort: settings.adminPort(9082),
  databaseUrl: settings.databaseUrl,
  queueNodes: settings.queueNodes,
  dashboardUsers: settings.dashboardUsers,
  receiptsUrl: settings.receiptsUrl,
  logLevel: settings.logLevel,
};

const AUDIT_STATEMENT_MS_MAX = 5_000;

await runProcess('dashboard', async ({ log, shutdown }) => {
  const config = readConfig(SETTINGS);
  log.setLevel(config.logLevel);

  // Operators need the page most when nodes or Postgres are down, so it depends on neither.
  const readiness = new Readiness('server');
  const registry = createMetrics('dashboard', readiness);
  const admin = await listen(createAdminApp(readiness, registry), config.adminPort);
  shutdown.defer('close the admin port', admin.close);

  const connect = (name: string, connectionsMax: number, statementMsMax: number) => {
    const db = openDb({
      url: config.databaseUrl.reveal(),
      connectionsMax,
      statementMsMax,
      name,
      onIdleError: (error) => log.repeated('idle Postgres connection broke', { error }),
    });
    shutdown.defer('close the database', () => db.destroy());
    return db;
  };
  const db = connect('turnout-dashboard', 2, AUDIT_STATEMENT_MS_MAX);
  // Its statements take long and must not delay the audit.
  const anomaliesDb = connect('turnout-anomalies', 1, ANOMALIES_MS_MAX);

  const board = createBoard(BOARD_PATH);
  const queues = new NodeQueues({ discover: discoverNodes(config.queueNodes), log, onChange: board.show });
  shutdown.defer('close the queues', () => queues.close());

  const audit = new LiveAudit({
    queues,
    readDatabase: async () => {
      const [audits, enrolled, awaited, polls] = await Promise.all([
        auditSources(db),
        readNodes(db),
        readAwaited(db),
        readPollStates(db),
      ]);
      return { audits, enrolled, awaited, polls };
    },
    log,
  });
  createDashboardMetrics(registry, () => audit.latest());
  const app = createDashboardApp({
    users: config.dashboardUsers,
    audit,
    anomalies: new LiveAnomalies({
      collect: () => collectAnomalies({ db: anomaliesDb, msMax: ANOMALIES_MS_MAX }),
      log,
    }),
    board: board.app,
    retire: (node, request) => requestRetirement(db, node, request),
    writeOff: (node, request) => writeOffNode(db, node, request),
    writeOffJobs: (jobs, request) => writeOffJobs(db, jobs, request),
    resultsUrl: config.receiptsUrl,
    control: {
      open: (poll, request) => openPoll(db, poll, request),
      close: (poll, request) => closePoll(db, poll, request),
      extend: (poll, extension, request) => extendPoll(db, poll, extension, request),
      embargo: (poll, results, request) => setEmbargo(db, poll, results, request),
      forget: (poll, request) => forgetPoll(db, poll, request),
    },
    log,
  });
  const server = await listen(app, config.port);
  shutdown.defer('finish open requests', server.close);
  shutdown.defer('become not ready', () => readiness.notReady('server', 'stopping'));
  readiness.ready('server');
  log.info('listening', { port: server.port });
  await queues.follow();
});
