import cluster, { type Worker } from 'node:cluster';
import { AggregatorRegistry, type Registry } from '@prometheus-io/client';
import type { ProcessParts } from '#runtime/process.ts';
import type { Readiness } from '#runtime/readiness.ts';
import { SHUTDOWN_MS_MAX } from '#runtime/shutdown.ts';

const RESTART_DELAY_MS = 1_000;
/** How long a process writes the votes in its buffer when it stops. By then every request for them has timed out. */
export const FLUSH_MS_MAX = 10_000;
const STOP_MS_MAX = 20_000;
/** To the primary process it means: the next process is another source, which is not fenced. */
export const FENCED_EXIT_CODE = 3;

if (FLUSH_MS_MAX >= STOP_MS_MAX || STOP_MS_MAX >= SHUTDOWN_MS_MAX) {
  throw new RangeError(
    'each stop must fit into the one around it: FLUSH_MS_MAX < STOP_MS_MAX < SHUTDOWN_MS_MAX',
  );
}

/** Sent to the primary process whenever the readiness of a process changes. */
interface ReadinessReport {
  readonly readinessFaults: Readonly<Record<string, string>>;
}

/** Returns the metrics of all processes, added up. */
export function aggregateMetrics(): { readonly contentType: string; metrics(): Promise<string> } {
  const aggregator = new AggregatorRegistry();
  return { contentType: aggregator.contentType, metrics: () => aggregator.clusterMetrics() };
}

/** Sends the primary process this one's readiness on every change, and its metrics on request. */
export function reportToPrimary(readiness: Readiness, registry: Registry): void {
  AggregatorRegistry.setRegistries(registry);
  new AggregatorRegistry();
  readiness.watch((faults) => process.send?.({ readinessFaults: faults } satisfies ReadinessReport));
}

/**
 * Ends a process whose source is fenced, after it has answered its requests. What runs it, or the primary process, starts
 * another one, which is a new source.
 */
export function exitFenced(source: string, { log, shutdown }: ProcessParts): void {
  if (shutdown.isStopping) return;
  log.error('source fenced, exiting: workers took this process for dead, and the next one replaces it', {
    source,
  });
  void shutdown.exit('the source is fenced', FENCED_EXIT_CODE);
}

interface Supervision extends ProcessParts {
  readonly count: number;
  readonly readiness: Readiness;
}

/**
 * Keeps `count` processes running, with this one's Node flags, and mirrors their readiness. A process that dies is
 * replaced by a new source. One that dies before it was ever ready would die again, so then all stop, unless it was fenced.
 */
export async function superviseProcesses({ count, readiness, log, shutdown }: Supervision): Promise<void> {
  // All processes accept from one shared socket. If the primary handed out connections instead, those on their way to a
  // process that is killed would hang.
  cluster.schedulingPolicy = cluster.SCHED_NONE;
  const fork = (place: number): void => {
    const part = `process ${place}`;
    readiness.notReady(part, 'starting');
    const worker = cluster.fork();
    let wasReady = false;
    worker.on('message', ({ readinessFaults }: Partial<ReadinessReport>) => {
      if (!readinessFaults) return;
      const faults = Object.entries(readinessFaults).map(([name, fault]) => `${name}: ${fault}`);
      if (faults.length > 0) return readiness.notReady(part, faults.join('; '));
      wasReady = true;
      readiness.ready(part);
    });
    worker.on('exit', (code, signal) => {
      if (shutdown.isStopping) return;
      readiness.notReady(part, 'exited');
      log.error('process exited', { place, code, signal });
      if (!wasReady && code !== FENCED_EXIT_CODE) {
        void shutdown.exit('a process exited before it was ready', 1);
        return;
      }
      setTimeout(() => {
        if (!shutdown.isStopping) fork(place);
      }, RESTART_DELAY_MS);
    });
  };
  shutdown.defer('stop the processes', async () => {
    await Promise.all(Object.values(cluster.workers ?? {}).map((worker) => worker && stop(worker)));
  });
  for (let place = 1; place <= count; place++) fork(place);
}

/** Sends SIGTERM and waits until the process has exited; kills it after `STOP_MS_MAX`. */
async function stop(worker: Worker): Promise<void> {
  if (worker.isDead()) return;
  const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  worker.process.kill('SIGTERM');
  const timer = setTimeout(() => worker.process.kill('SIGKILL'), STOP_MS_MAX);
  await exited;
  clearTimeout(timer);
}
