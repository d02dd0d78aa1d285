import { Counter, Gauge, type Registry } from '@prometheus-io/client';

/** Called by the controller to update the metrics. */
export interface InterlockMetrics {
  docker(isReachable: boolean): void;
  proxy(isReachable: boolean): void;
  reload(outcome: 'accepted' | 'rejected'): void;
  renewal(outcome: 'accepted' | 'rejected'): void;
  /** Names of the controller's certificates, each with the end of its validity in milliseconds since the epoch. */
  certificates(all: readonly (readonly [name: string, expiresAt: number | undefined])[]): void;
  services(counts: {
    readonly routed: number;
    readonly disabled: number;
    readonly quarantined: number;
  }): void;
}

/** Creates the metrics of the controller. */
export function createInterlockMetrics(registry: Registry, now: () => number = Date.now): InterlockMetrics {
  const registers = [registry];
  const services = new Gauge({
    name: 'turnout_interlock_services',
    help: 'Services with labels, by state: routed, disabled by a fault, quarantined because the proxy rejects the route',
    labelNames: ['state'],
    registers,
  });
  const reloads = new Counter({
    name: 'turnout_interlock_reloads_total',
    help: 'Configurations loaded into the proxy, by outcome',
    labelNames: ['outcome'],
    registers,
  });
  const acceptedAt = new Gauge({
    name: 'turnout_interlock_last_reload_timestamp_seconds',
    help: 'Time of the last accepted configuration',
    registers,
  });
  const isUp = new Gauge({
    name: 'turnout_interlock_up',
    help: '1 if the peer responded to the last request',
    labelNames: ['peer'],
    registers,
  });
  const faults = new Counter({
    name: 'turnout_interlock_faults_total',
    help: 'Failed requests to the peer',
    labelNames: ['peer'],
    registers,
  });
  const renewals = new Counter({
    name: 'turnout_interlock_certificate_renewals_total',
    help: 'Attempts to replace a certificate in the running proxy, by outcome',
    labelNames: ['outcome'],
    registers,
  });
  const expiry = new Gauge({
    name: 'turnout_interlock_certificate_expiry_timestamp_seconds',
    help: 'End of the validity of each certificate that the controller holds',
    labelNames: ['certificate'],
    registers,
  });
  const show = (peer: 'docker' | 'proxy', isReachable: boolean): void => {
    isUp.set({ peer }, isReachable ? 1 : 0);
    faults.inc({ peer }, isReachable ? 0 : 1);
  };
  for (const outcome of ['accepted', 'rejected']) {
    reloads.inc({ outcome }, 0);
    renewals.inc({ outcome }, 0);
  }
  return {
    docker: (isReachable) => show('docker', isReachable),
    proxy: (isReachable) => show('proxy', isReachable),
    reload: (outcome) => {
      reloads.inc({ outcome });
      if (outcome === 'accepted') acceptedAt.set(now() / 1_000);
    },
    renewal: (outcome) => renewals.inc({ outcome }),
    certificates: (all) => {
      expiry.reset();
      for (const [certificate, expiresAt] of all) {
        if (expiresAt !== undefined) expiry.set({ certificate }, expiresAt / 1_000);
      }
    },
    services: (counts) => {
      for (const [state, count] of Object.entries(counts)) services.set({ state }, count);
    },
  };
}
