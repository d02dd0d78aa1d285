import cluster, { type Worker } from 'node:cluster';
import { AggregatorRegistry, type Registry } from '@prometheus-io/client';
import type { Log } from '#runtime/log.ts';
import type { Readiness } from '#runtime/readiness.ts';
import type { Shutdown } from '#runtime/shutdown.ts';

const RESTART_DELAY_MS = 1_000;
/** Longer than a process takes to drain its buffer. */
const STOP_MS_MAX = 20_000;

/** What a process tells the primary whenever its readiness changes. */
interface ReadinessReport {
  readonly readinessFaults: Readonly<Record<string, string>>;
}

/** The metrics of all processes, added up by prom-client. */
export function aggregateMetrics(): { readonly contentType: string; metrics(): Promise<string> } {
  const aggregator = new AggregatorRegistry();
  return { contentType: aggregator.contentType, metrics: () => aggregator.clusterMetrics() };
}

/** Lets the primary know how this process is, and hands it the metrics when it asks. */
export function reportToPrimary(readiness: Readiness, registry: Registry): void {
  AggregatorRegistry.setRegistries(registry);
  new AggregatorRegistry();
  readiness.watch((faults) => process.send?.({ readinessFaults: faults } satisfies ReadinessReport));
}

interface Supervision {
  readonly count: number;
  readonly readiness: Readiness;
  readonly log: Log;
  readonly shutdown: Shutdown;
}

/**
 * Keeps `count` processes running and mirrors their readiness. A process that dies is replaced; each one is a source of
 * its own, so nothing has to be handed over. If one dies before it was ever ready, all stop: it would die again.
 */
export async function superviseProcesses({ count, readiness, log, shutdown }: Supervision): Promise<void> {
  // The processes accept from one shared socket. Were connections handed to them one by one instead, a process that is
  // killed would take along those on their way to it, and their clients would wait for ever.
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
      readiness.notReady(part, 'died');
      log.error('a process died', { place, code, signal });
      if (!wasReady) {
        void shutdown.stop('a process could not start').then(() => process.exit(1));
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

async function stop(worker: Worker): Promise<void> {
  if (worker.isDead()) return;
  const exited = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  worker.process.kill('SIGTERM');
  const timer = setTimeout(() => worker.process.kill('SIGKILL'), STOP_MS_MAX);
  await exited;
  clearTimeout(timer);
}
