import { collectDefaultMetrics, Registry } from '@prometheus-io/client';

/**
 * Creates the Prometheus registry of a process with the default metrics of Node (CPU, memory, event loop).
 *
 * @param process value of the label `process` on every series
 */
export function createMetrics(process: string): Registry {
  const registry = new Registry();
  registry.setDefaultLabels({ process });
  collectDefaultMetrics({ register: registry });
  return registry;
}
