import { Hono } from 'hono';
import type { Log } from '../../stack/runtime/log.ts';
import type { Secret } from '../../stack/runtime/secret.ts';
import { SAFE_HEADERS } from '../web/layout.ts';
import { answerProblem, INTERNAL, NOT_FOUND } from '../web/problem.ts';
import { refuseOtherSites, requireUser } from './auth.ts';
import type { Ledger } from './ledger.ts';
import { DASHBOARD_PAGE_HEADERS, dashboardPage } from './page.ts';
import { viewOf } from './view.ts';

/** Where the board of the queues is mounted. */
export const BOARD_PATH = '/queues';

export interface DashboardAppParts {
  readonly users: ReadonlyMap<string, Secret>;
  readonly ledger: Pick<Ledger, 'latest'>;
  readonly board: Hono;
  readonly log: Log;
}

/**
 * The operators' side: what became of every accepted vote, and every node's queue. Nothing is answered to anybody who
 * has not said who they are. The contract is in DESIGN under "HTTP: dashboard".
 */
export function createDashboardApp({ users, ledger, board, log }: DashboardAppParts): Hono {
  const app = new Hono();
  app.use(requireUser(users), refuseOtherSites);

  app.get('/', async (c) =>
    c.body(dashboardPage(viewOf(await ledger.latest())), 200, DASHBOARD_PAGE_HEADERS),
  );

  app.get('/ledger', async (c) =>
    c.json(viewOf(await ledger.latest()), 200, { ...SAFE_HEADERS, 'Cache-Control': 'no-store' }),
  );

  app.route(BOARD_PATH, board);

  app.notFound((c) => answerProblem(c, NOT_FOUND));

  app.onError((error, c) => {
    log.error('a request failed', { error });
    return answerProblem(c, INTERNAL);
  });

  return app;
}
