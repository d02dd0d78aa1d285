import { Hono } from 'hono';
import type { Readiness } from './readiness.ts';

/** The part of a Prometheus registry that the admin port needs. */
interface MetricsText {
  readonly contentType: string;
  metrics(): Promise<string>;
}

/**
 * The app of the admin port. It is never reachable from outside: health and metrics tell an attacker too much.
 *
 * `GET /healthz` the process turns its event loop; `GET /startupz` the same, but 503 until the process has been ready for
 * the first time; `GET /readyz` it may be sent work, else 503 with the reasons; `GET /metrics` Prometheus text.
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
