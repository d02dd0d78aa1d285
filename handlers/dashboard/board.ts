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

/** A node that is down must not delay the board for the others. */
const READ_MS_MAX = 1_000;
const POLLING_INTERVAL_SECONDS = 5;

/** Permits bull-board's own scripts only. Its styles are partly inline. */
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

/** File names with a hash of the content, which never change. */
const HASHED_FILE = /\/static\/(js|css)\/.*\.[0-9a-f]{8,}\.(js|css)$/;
/** The page loads fonts from a third party, which would disclose who uses the board. */
const FOREIGN_FONTS = /<link\b[^>]*fonts\.googleapis\.com[^>]*>/g;

/**
 * Permitted actions. All others of bull-board (empty, clean, obliterate, edit, remove) would delete accepted votes.
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

/** Index in `Vote`. */
const VOTER = 1;

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

/** Leaves the last four digits of the voters' ids in the data of a job, which may be malformed. */
function maskVoters(data: unknown): unknown {
  const { votes } = (data ?? {}) as { votes?: unknown };
  if (!Array.isArray(votes)) return data;
  const masked = votes.map((vote: unknown) =>
    Array.isArray(vote)
      ? vote.map((field: unknown, index) => (index === VOTER ? `…${String(field).slice(-4)}` : field))
      : vote,
  );
  return { ...(data as object), votes: masked };
}

/** A node's queue on the board. For an unreachable node it shows an empty queue and the reason. */
class NodeAdapter extends BullMQAdapter {
  readonly #node: NodeQueue;
  readonly #title: string;

  /** @param title distinguishes the queues, which all have the same name; part of the page's address */
  constructor(node: NodeQueue, title: string) {
    super(node.queue, { prefix: `${title}.` });
    this.#node = node;
    this.#title = title;
    this.setFormatter('data', maskVoters);
  }

  override getDisplayName(): string {
    return this.#node.fault ? `Down: ${this.#title}` : this.#title;
  }

  override getDescription(): string {
    return this.#node.fault ? `Node unreachable: ${this.#node.fault}` : '';
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

  /** Jobs have no children, and the code that reads them is not in the bundle. */
  override async getFlowProducer() {
    return null;
  }

  async #orElse<T>(instead: T, read: () => Promise<T>): Promise<T> {
    if (this.#node.fault) return instead;
    return withDeadline(read(), READ_MS_MAX, 'asking the node').catch(() => instead);
  }
}

export interface Board {
  /** To be mounted at the path given to `createBoard`. */
  readonly app: Hono;
  /** Sets the nodes that the board shows. */
  show(queues: readonly NodeQueue[]): void;
}

/**
 * Creates the board: every node's queue, job by job, with the actions that SREs need.
 *
 * @param path where the app is mounted, like `/queues`
 */
export function createBoard(path: string): Board {
  const folder = uiFolder();
  const adapter = new HonoAdapter(((options) =>
    serveStatic({ ...options, root: join(folder, 'static') })) as typeof serveStatic);
  const { replaceQueues } = createBullBoard({
    queues: [],
    serverAdapter: adapter,
    options: {
      // Any value stops bull-board from looking for its package, which is not in the bundle; setViewsPath decides.
      uiBasePath: folder,
      handlerHooks: {
        before: ({ method, route }) =>
          method === 'get' || ACTIONS.has(route)
            ? { allow: true }
            : { allow: false, status: 403, message: 'This action would delete accepted votes.' },
      },
      uiConfig: {
        boardTitle: 'Turnout queues',
        favIcon: { default: 'static/images/logo.svg', alternative: 'static/favicon-32x32.png' },
        // It would show the first node only; the audit page shows all.
        hideRedisDetails: true,
        hideDocsLink: true,
        miscLinks: [{ text: 'Audit', url: '/' }],
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
  // Requests for a node that is down fail at once.
  app.use('/api/queues/:queue/*', async (c, next) => {
    const fault = nodes.get(c.req.param('queue'))?.fault;
    if (!fault) return next();
    return c.json({ error: `Node unreachable: ${fault}` }, 503);
  });
  app.route('/', adapter.registerPlugin());

  return {
    app,
    show: (queues) => {
      const adapters = new Map<string, NodeAdapter>();
      nodes.clear();
      for (const node of queues) {
        const names = [node.host ?? '', node.name].map((name) => name.replaceAll(/[^A-Za-z0-9.-]+/g, '_'));
        const free =
          names.find((name) => name !== '' && !adapters.has(name)) ?? `${names[1]}-${adapters.size}`;
        const shown = new NodeAdapter(node, free);
        adapters.set(free, shown);
        nodes.set(shown.getName(), node);
      }
      replaceQueues([...adapters.values()]);
    },
  };
}

/** Returns the folder of bull-board's pages: beside the bundle, or in its package when running from source. */
function uiFolder(): string {
  const besideBundle = fileURLToPath(new URL('./bull-board-ui', import.meta.url));
  if (existsSync(besideBundle)) return besideBundle;
  return fileURLToPath(new URL('./dist', import.meta.resolve('@bull-board/ui/package.json')));
}
