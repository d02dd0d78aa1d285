import { Hono } from 'hono';
import type { Retirement } from '#db/nodes.ts';
import type { Log } from '#runtime/log.ts';
import type { Secret } from '#runtime/secret.ts';
import { SAFE_HEADERS } from '../web/layout.ts';
import { answerProblem, INTERNAL, NOT_FOUND, type Problem } from '../web/problem.ts';
import { refuseOtherSites, requireUser } from './auth.ts';
import type { LiveAudit } from './live-audit.ts';
import { DASHBOARD_PAGE_HEADERS, dashboardPage } from './page.ts';
import { viewOf } from './view.ts';

/** Where the board of the queues is mounted. */
export const BOARD_PATH = '/queues';

export interface DashboardAppParts {
  readonly users: ReadonlyMap<string, Secret>;
  readonly ledger: Pick<LiveAudit, 'latest' | 'expire'>;
  readonly board: Hono;
  /** See `retireNode` in `db/nodes.ts`. */
  readonly retire: (node: string) => Promise<Retirement>;
  readonly log: Log;
}

const STILL_REACHABLE: Problem = {
  status: 409,
  code: 'still_reachable',
  title: 'This node is here',
  detail: 'its Redis answers; end its tasks before you retire it',
};

/** Why a node is not retired; `undefined` when it is. */
function problemOf(retirement: Retirement): Problem | undefined {
  switch (retirement.status) {
    case 'retired':
      return undefined;
    case 'unknown':
      return {
        status: 404,
        code: 'unknown_node',
        title: 'Nobody knows this node',
        detail: 'no ledger was ever read from it',
      };
    case 'unsettled':
      return {
        status: 409,
        code: 'not_settled',
        title: 'This node has votes that are not counted',
        detail: `${retirement.jobs} of its jobs are not in Postgres`,
      };
  }
}

/**
 * The operators' side: what became of every accepted vote, and every node's queue. Nothing is answered to anybody who
 * has not said who they are. The contract is in DESIGN under "HTTP: dashboard".
 */
export function createDashboardApp({ users, ledger, board, retire, log }: DashboardAppParts): Hono {
  const app = new Hono();
  app.use(requireUser(users), refuseOtherSites);

  app.get('/', async (c) =>
    c.body(dashboardPage(viewOf(await ledger.latest())), 200, DASHBOARD_PAGE_HEADERS),
  );

  app.get('/ledger', async (c) =>
    c.json(viewOf(await ledger.latest()), 200, { ...SAFE_HEADERS, 'Cache-Control': 'no-store' }),
  );

  app.post('/nodes/:node/retire', async (c) => {
    const node = c.req.param('node');
    const { nodes } = await ledger.latest();
    const answers = nodes.some((queue) => queue.fault === undefined && queue.nodes.includes(node));
    const problem = answers ? STILL_REACHABLE : problemOf(await retire(node));
    if (problem) return answerProblem(c, problem);
    log.info('a node has been retired', { node });
    ledger.expire();
    // Only the page's own form asks for a page.
    if (c.req.header('accept')?.includes('text/html')) return c.redirect('/', 303);
    return c.json({ node, status: 'retired' }, 200, { ...SAFE_HEADERS, 'Cache-Control': 'no-store' });
  });

  app.route(BOARD_PATH, board);

  app.notFound((c) => answerProblem(c, NOT_FOUND));

  app.onError((error, c) => {
    log.error('a request failed', { error });
    return answerProblem(c, INTERNAL);
  });

  return app;
}
