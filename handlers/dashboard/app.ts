import { Hono } from 'hono';
import type { Retirement } from '#db/nodes.ts';
import type { Log } from '#runtime/log.ts';
import type { Secret } from '#runtime/secret.ts';
import { SAFE_HEADERS } from '../web/layout.ts';
import { answerProblem, INTERNAL, NOT_FOUND, type Problem } from '../web/problem.ts';
import { refuseOtherSites, requireUser } from './auth.ts';
import type { LiveAudit } from './live-audit.ts';
import { DASHBOARD_PAGE_HEADERS, dashboardPage } from './page.ts';
import { auditView } from './view.ts';

/** Path of the queue board. */
export const BOARD_PATH = '/queues';

export interface DashboardAppParts {
  readonly users: ReadonlyMap<string, Secret>;
  readonly audit: Pick<LiveAudit, 'latest' | 'expire'>;
  readonly board: Hono;
  /** See `retireNode` in `db/nodes.ts`. */
  readonly retire: (node: string) => Promise<Retirement>;
  readonly log: Log;
}

const STILL_REACHABLE: Problem = {
  status: 409,
  code: 'still_reachable',
  title: 'Node reachable',
  detail: 'its Redis responds; stop its tasks before you retire it',
};

/** Returns why a node was not retired; `undefined` when it was. */
function problemOf(retirement: Retirement): Problem | undefined {
  switch (retirement.status) {
    case 'retired':
      return undefined;
    case 'unknown':
      return {
        status: 404,
        code: 'unknown_node',
        title: 'Unknown node',
        detail: 'no ledger was ever read from it',
      };
    case 'incomplete':
      return {
        status: 409,
        code: 'votes_uncounted',
        title: 'Node has uncounted votes',
        detail: `${retirement.jobs} of its jobs are not in Postgres`,
      };
  }
}

/**
 * Returns the app for operators: the audit of every accepted vote, and the queue of every node. Every request needs a
 * password.
 */
export function createDashboardApp({ users, audit, board, retire, log }: DashboardAppParts): Hono {
  const app = new Hono();
  app.use(requireUser(users), refuseOtherSites);

  app.get('/', async (c) =>
    c.body(dashboardPage(auditView(await audit.latest())), 200, DASHBOARD_PAGE_HEADERS),
  );

  app.get('/ledger', async (c) =>
    c.json(auditView(await audit.latest()), 200, { ...SAFE_HEADERS, 'Cache-Control': 'no-store' }),
  );

  app.post('/nodes/:node/retire', async (c) => {
    const node = c.req.param('node');
    const { nodes } = await audit.latest();
    const isReachable = nodes.some((queue) => queue.fault === undefined && queue.nodes.includes(node));
    const problem = isReachable ? STILL_REACHABLE : problemOf(await retire(node));
    if (problem) return answerProblem(c, problem);
    log.info('node retired', { node });
    audit.expire();
    // The form on the page prefers HTML; programs do not.
    if (c.req.header('accept')?.includes('text/html')) return c.redirect('/', 303);
    return c.json({ node, status: 'retired' }, 200, { ...SAFE_HEADERS, 'Cache-Control': 'no-store' });
  });

  app.route(BOARD_PATH, board);

  app.notFound((c) => answerProblem(c, NOT_FOUND));

  app.onError((error, c) => {
    log.error('request failed', { error });
    return answerProblem(c, INTERNAL);
  });

  return app;
}
