import { collectDefaultMetrics, Gauge, Registry } from '@prometheus-io/client';
import type { Readiness } from './readiness.ts';

/** Set by the bundler. */
declare const TURNOUT_VERSION: string | undefined;

/**
 * Creates the Prometheus registry of a process with the default metrics of Node (CPU, memory, event loop), its version and
 * its readiness.
 *
 * @param process value of the label `process` on every series
 */
export function createMetrics(process: string, readiness: Pick<Readiness, 'isReady'>): Registry {
  const registry = new Registry();
  const registers = [registry];
  registry.setDefaultLabels({ process });
  collectDefaultMetrics({ register: registry });
  new Gauge({
    name: 'turnout_build_info',
    help: 'Always 1; the version of the process is a label',
    labelNames: ['version'],
    registers,
    aggregator: 'first',
  }).set({ version: typeof TURNOUT_VERSION === 'string' ? TURNOUT_VERSION : 'source' }, 1);
  new Gauge({
    name: 'turnout_ready',
    help: '1 if the process may receive work, 0 otherwise; of several processes behind one port, the lowest',
    registers,
    aggregator: 'min',
    collect() {
      this.set(readiness.isReady ? 1 : 0);
    },
  });
  return registry;
}
