import { collectDefaultMetrics, Registry } from '@prometheus-io/client';

/**
 * Makes the Prometheus registry of a process, with the measures that every Node process has (CPU, memory, event loop).
 *
 * @param process becomes the label `process` on every series
 */
export function createMetrics(process: string): Registry {
  const registry = new Registry();
  registry.setDefaultLabels({ process });
  collectDefaultMetrics({ register: registry });
  return registry;
}
