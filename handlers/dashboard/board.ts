import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { HonoAdapter } from '@bull-board/hono';
import { serveStatic } from '@hono/node-server/serve-static';
import { Hono } from 'hono';
import type { NodeQueue } from '#audit/queues.ts';
import { withDeadline } from '#runtime/deadline.ts';
import { SAFE_HEADERS } from '../web/layout.ts';

/** A node that is down must not hold up the board for the others. */
const READ_MS_MAX = 1_000;
const POLLING_INTERVAL_SECONDS = 5;

/** bull-board's own scripts only; its styles are partly in attributes, and its editor makes more while it runs. */
const BOARD_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'self'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

/** Names beginning with a hash of the content: they never change. */
const HASHED_FILE = /\/static\/(js|css)\/.*\.[0-9a-f]{8,}\.(js|css)$/;
/** The page asks another company's server for fonts; nobody else needs to know who looks at the board. */
const FOREIGN_FONTS = /<link\b[^>]*fonts\.googleapis\.com[^>]*>/g;

/**
 * What may be done to a queue from the board. All else that bull-board offers (empty, clean, obliterate, edit, remove)
 * would take accepted votes away, and nobody may do that by a click.
 */
const ACTIONS: ReadonlySet<string> = new Set([
  '/api/queues/pause',
  '/api/queues/resume',
  '/api/queues/:queueName/pause',
  '/api/queues/:queueName/resume',
  '/api/queues/:queueName/promote',
  '/api/queues/:queueName/retry/:queueStatus',
  '/api/queues/:queueName/:jobId/promote',
  '/api/queues/:queueName/:jobId/retry',
]);

const NO_JOBS = {
  active: 0,
  waiting: 0,
  'waiting-children': 0,
  prioritized: 0,
  completed: 0,
  failed: 0,
  delayed: 0,
  paused: 0,
};

/** A node's queue on the board. Where the node does not answer it shows an empty queue and says why. */
class NodeAdapter extends BullMQAdapter {
  readonly #node: NodeQueue;

  /** @param prefix tells the queues apart, which all have the same name; it is part of the page's address */
  constructor(node: NodeQueue, prefix: string) {
    super(node.queue, { prefix });
    this.#node = node;
  }

  override getDisplayName(): string {
    return this.#node.fault ? `Down: ${this.#node.label}` : this.#node.label;
  }

  override getDescription(): string {
    return this.#node.fault ? `This node cannot be asked: ${this.#node.fault}` : '';
  }

  override getJobCounts() {
    return this.#orElse(NO_JOBS, () => super.getJobCounts());
  }

  override getJobs(...range: Parameters<BullMQAdapter['getJobs']>) {
    return this.#orElse([], () => super.getJobs(...range));
  }

  override isPaused() {
    return this.#orElse(false, () => super.isPaused());
  }

  override getGlobalConcurrency() {
    return this.#orElse(null, () => super.getGlobalConcurrency());
  }

  override getActiveRateLimitTtl() {
    return this.#orElse(0, () => super.getActiveRateLimitTtl());
  }

  override getJobSchedulersCount() {
    return this.#orElse(0, () => super.getJobSchedulersCount());
  }

  override getJobSchedulers() {
    return this.#orElse([], () => super.getJobSchedulers());
  }

  override getWorkers() {
    return this.#orElse(null, () => super.getWorkers());
  }

  /** Our jobs have no children, and what reads them is left out of the bundle. */
  override async getFlowProducer() {
    return null;
  }

  async #orElse<T>(instead: T, read: () => Promise<T>): Promise<T> {
    if (this.#node.fault) return instead;
    return withDeadline(read(), READ_MS_MAX, 'asking the node').catch(() => instead);
  }
}

export interface Board {
  /** To be mounted at the path that `createBoard` was given. */
  readonly app: Hono;
  /** Shows these nodes and no others. */
  show(queues: readonly NodeQueue[]): void;
}

/**
 * Makes the board: what waits in each node's queue, job by job, with the actions that SREs need.
 *
 * @param path where the app will be mounted, like `/queues`
 */
export function createBoard(path: string): Board {
  const folder = uiFolder();
  const adapter = new HonoAdapter(((options) =>
    serveStatic({ ...options, root: join(folder, 'static') })) as typeof serveStatic);
  const { replaceQueues } = createBullBoard({
    queues: [],
    serverAdapter: adapter,
    options: {
      // Anything but nothing, or bull-board looks for its package, which the bundle does not have; the next lines count.
      uiBasePath: folder,
      handlerHooks: {
        before: ({ method, route }) =>
          method === 'get' || ACTIONS.has(route)
            ? { allow: true }
            : { allow: false, status: 403, message: 'Turnout keeps every vote: this would take some away.' },
      },
      uiConfig: {
        boardTitle: 'Turnout queues',
        favIcon: { default: 'static/images/logo.svg', alternative: 'static/favicon-32x32.png' },
        // It would show the first node only; the ledger page has all.
        hideRedisDetails: true,
        hideDocsLink: true,
        miscLinks: [{ text: 'Ledger', url: '/' }],
        pollingInterval: { forceInterval: POLLING_INTERVAL_SECONDS },
      },
    },
  });
  adapter.setViewsPath(folder).setStaticPath('/static', join(folder, 'static')).setBasePath(path);

  const nodes = new Map<string, NodeQueue>();
  const app = new Hono();
  app.use(async (c, next) => {
    await next();
    for (const [name, value] of Object.entries(SAFE_HEADERS)) c.res.headers.set(name, value);
    c.res.headers.set('Content-Security-Policy', BOARD_POLICY);
    const isForEver = c.res.ok && HASHED_FILE.test(c.req.path);
    c.res.headers.set('Cache-Control', isForEver ? 'private, max-age=31536000, immutable' : 'no-store');
    if (c.res.headers.get('content-type')?.startsWith('text/html')) {
      const { status, headers } = c.res;
      const text = (await c.res.text()).replace(FOREIGN_FONTS, '');
      c.res = new Response(text, { status, headers });
    }
  });
  // What is asked of, or done to, one node fails at once when that node is down.
  app.use('/api/queues/:queue/*', async (c, next) => {
    const fault = nodes.get(c.req.param('queue'))?.fault;
    if (!fault) return next();
    return c.json({ error: `This node cannot be asked: ${fault}` }, 503);
  });
  app.route('/', adapter.registerPlugin());

  return {
    app,
    show: (queues) => {
      const adapters = new Map<string, NodeAdapter>();
      nodes.clear();
      for (const node of queues) {
        const names = [node.nodes.join('-'), node.name].map((name) =>
          name.replaceAll(/[^A-Za-z0-9.-]+/g, '_'),
        );
        const free =
          names.find((name) => name !== '' && !adapters.has(name)) ?? `${names[1]}-${adapters.size}`;
        const shown = new NodeAdapter(node, `${free}.`);
        adapters.set(free, shown);
        nodes.set(shown.getName(), node);
      }
      replaceQueues([...adapters.values()]);
    },
  };
}

/** bull-board's pages: beside the bundle, where `build.ts` puts them, or in its package when running from source. */
function uiFolder(): string {
  const besideBundle = fileURLToPath(new URL('./bull-board-ui', import.meta.url));
  if (existsSync(besideBundle)) return besideBundle;
  return fileURLToPath(new URL('./dist', import.meta.resolve('@bull-board/ui/package.json')));
}
