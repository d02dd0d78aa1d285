import { Counter, Gauge, type Registry } from '@prometheus-io/client';

/** What the controller tells the metrics. */
export interface InterlockMetrics {
  docker(answers: boolean): void;
  proxy(answers: boolean): void;
  reload(outcome: 'taken' | 'refused'): void;
  services(counts: {
    readonly routed: number;
    readonly disabled: number;
    readonly quarantined: number;
  }): void;
}

/** The measures of the controller. */
export function createInterlockMetrics(registry: Registry, now: () => number = Date.now): InterlockMetrics {
  const registers = [registry];
  const services = new Gauge({
    name: 'turnout_interlock_services',
    help: 'Services with labels: routed, with a fault that is in the log, and those of them whose route the proxy refused',
    labelNames: ['state'],
    registers,
  });
  const reloads = new Counter({
    name: 'turnout_interlock_reloads_total',
    help: 'Configurations given to the proxy, by what it said',
    labelNames: ['outcome'],
    registers,
  });
  const takenAt = new Gauge({
    name: 'turnout_interlock_last_reload_timestamp_seconds',
    help: 'When the proxy took a new configuration last',
    registers,
  });
  const isUp = new Gauge({
    name: 'turnout_interlock_up',
    help: '1 when the peer answered the last time it was asked',
    labelNames: ['peer'],
    registers,
  });
  const faults = new Counter({
    name: 'turnout_interlock_faults_total',
    help: 'Times that the peer did not answer, or not as it should',
    labelNames: ['peer'],
    registers,
  });
  const show = (peer: 'docker' | 'proxy', answers: boolean): void => {
    isUp.set({ peer }, answers ? 1 : 0);
    faults.inc({ peer }, answers ? 0 : 1);
  };
  for (const outcome of ['taken', 'refused']) reloads.inc({ outcome }, 0);
  return {
    docker: (answers) => show('docker', answers),
    proxy: (answers) => show('proxy', answers),
    reload: (outcome) => {
      reloads.inc({ outcome });
      if (outcome === 'taken') takenAt.set(now() / 1_000);
    },
    services: (counts) => {
      for (const [state, count] of Object.entries(counts)) services.set({ state }, count);
    },
  };
}
