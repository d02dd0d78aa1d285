import type { Secret } from '#runtime/secret.ts';
import type { HealthCheck } from './plan.ts';
import { checkPostgres } from './postgres-server.ts';
import { checkRedis } from './redis-server.ts';

const READYZ_MS_MAX = 2_000;

/**
 * Checks whether a service is ready.
 *
 * @returns the reason why it is not; `undefined` if it is
 */
export function checkService(check: HealthCheck, databaseUrl: Secret): Promise<string | undefined> {
  switch (check.by) {
    case 'ping':
      return checkRedis(check.socket);
    case 'query':
      return checkPostgres(databaseUrl.reveal());
    case 'readyz':
      return checkReadyz(check.port);
  }
}

async function checkReadyz(port: number): Promise<string | undefined> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/readyz`, {
      signal: AbortSignal.timeout(READYZ_MS_MAX),
    });
    const text = await response.text();
    return response.ok ? undefined : reasonIn(text, response.status);
  } catch (error) {
    const { cause, message } = error as Error & { cause?: { code?: string } };
    return `/readyz does not respond (${cause?.code ?? message})`;
  }
}

function reasonIn(body: string, status: number): string {
  try {
    const { reason } = JSON.parse(body) as { reason: Record<string, string> };
    return Object.entries(reason)
      .map(([part, reason]) => `${part}: ${reason}`)
      .join('; ');
  } catch {
    return `/readyz responds with ${status}`;
  }
}
