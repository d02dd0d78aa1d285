import { Hono } from 'hono';
import { pollsText } from '#audit/polls.ts';
import { jobsAtFault } from '#audit/reconcile.ts';
import type { User } from '#runtime/users.ts';
import { SAFE_HEADERS } from '../web/layout.ts';
import { answerProblem, linkProblems } from '../web/problem.ts';
import { problem } from '../web/problems.ts';
import { ANOMALIES_PAGE_HEADERS, anomaliesPage } from './anomalies-page.ts';
import { refuseOtherSites, refuseViewers, requireUser, type UserVariables } from './auth.ts';
import { createNodeChanges, type NodeChangesParts } from './changes.ts';
import { createJobChanges, type JobChangesParts } from './job-changes.ts';
import type { LiveAnomalies } from './live-anomalies.ts';
import { NODE_PAGE_HEADERS, nodePage } from './node-page.ts';
import { DASHBOARD_PAGE_HEADERS, dashboardPage } from './page.ts';
import { createPollChanges, type PollChangesParts } from './poll-changes.ts';
import { POLL_PAGE_HEADERS, pollPage } from './poll-page.ts';
import { pollJson, pollViews } from './polls-cards.ts';
import { auditView } from './view.ts';

/** Path of the queue board. */
export const BOARD_PATH = '/queues';

export interface DashboardAppParts extends NodeChangesParts, JobChangesParts, PollChangesParts {
  readonly users: ReadonlyMap<string, User>;
  readonly anomalies: Pick<LiveAnomalies, 'latest'>;
  readonly board: Hono;
  /** See `settings.receiptsUrl`. */
  readonly resultsUrl?: string | undefined;
}

/**
 * Returns the app for operators: the audit of every accepted vote, every node, and the queue of every node. Every request needs
 * a password, and every change that of a user who may change something.
 */
export function createDashboardApp(parts: DashboardAppParts): Hono<UserVariables> {
  const { users, audit, anomalies, board, log, resultsUrl } = parts;
  const app = new Hono<UserVariables>();
  app.use(linkProblems(resultsUrl), requireUser(users), refuseViewers, refuseOtherSites);

  app.get('/', async (c) => {
    const report = await audit.latest();
    return c.body(dashboardPage(auditView(report), pollViews(report)), 200, DASHBOARD_PAGE_HEADERS);
  });

  app.get('/ledger', async (c) =>
    c.json(auditView(await audit.latest()), 200, { ...SAFE_HEADERS, 'Cache-Control': 'no-store' }),
  );

  app.get('/anomalies', async (c) =>
    c.body(anomaliesPage(await anomalies.latest()), 200, ANOMALIES_PAGE_HEADERS),
  );

  app.get('/nodes/:node', async (c) => {
    const { nodes, sources } = auditView(await audit.latest());
    const node = nodes.find(({ node: id }) => id === c.req.param('node'));
    if (!node) return answerProblem(c, problem('not_found'));
    const jobs = jobsAtFault(sources.filter(({ node: id }) => id === node.node));
    return c.body(nodePage(node, jobs, c.var.mayChange), 200, NODE_PAGE_HEADERS);
  });

  app.route('/nodes', createNodeChanges(parts));

  app.route('/jobs', createJobChanges(parts));

  app.get('/polls', async (c) =>
    c.json(pollViews(await audit.latest()).map(pollJson), 200, {
      ...SAFE_HEADERS,
      'Cache-Control': 'no-store',
    }),
  );

  // For people at a terminal, see `stack/swarm/polls.sh`.
  app.get('/polls.txt', async (c) =>
    c.text(`${pollsText(pollViews(await audit.latest()))}\n`, 200, {
      ...SAFE_HEADERS,
      'Cache-Control': 'no-store',
    }),
  );

  app.get('/polls/:poll', async (c) => {
    const poll = pollViews(await audit.latest()).find(({ id }) => id === c.req.param('poll'));
    return poll
      ? c.body(pollPage(poll, c.var.mayChange), 200, POLL_PAGE_HEADERS)
      : answerProblem(c, problem('not_found'));
  });

  app.route('/polls', createPollChanges(parts));

  app.route(BOARD_PATH, board);

  app.notFound((c) => answerProblem(c, problem('not_found')));

  app.onError((error, c) => {
    log.error('request failed', { error });
    return answerProblem(c, problem('internal'));
  });

  return app;
}
