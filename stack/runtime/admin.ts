import { Hono } from 'hono';
import type { Readiness } from './readiness.ts';

/** The part of a Prometheus registry that the admin port uses. */
interface MetricsText {
  readonly contentType: string;
  metrics(): Promise<string>;
}

/**
 * Creates the app of the admin port, which must not be reachable from outside: health and metrics help an attacker.
 *
 *   GET /healthz   200 while the event loop runs
 *   GET /startupz  200 once the process has been ready, until then 503 with the reasons
 *   GET /readyz    200 while the process may receive work, else 503 with the reasons
 *   GET /metrics   Prometheus text
 */
export function createAdminApp(
  readiness: Pick<Readiness, 'hasBeenReady' | 'isReady' | 'faults'>,
  metrics: MetricsText,
): Hono {
  const app = new Hono();
  app.get('/healthz', (c) => c.json({ status: 'alive' }));
  app.get('/startupz', (c) =>
    readiness.hasBeenReady
      ? c.json({ status: 'started' })
      : c.json({ status: 'starting', reason: readiness.faults }, 503),
  );
  app.get('/readyz', (c) =>
    readiness.isReady
      ? c.json({ status: 'ready' })
      : c.json({ status: 'not ready', reason: readiness.faults }, 503),
  );
  app.get('/metrics', async (c) =>
    c.body(await metrics.metrics(), 200, { 'Content-Type': metrics.contentType }),
  );
  return app;
}
