import type { Service, Swarm } from './docker.ts';
import { clusterOf, isProxy, LabelFault, parseLabels, type Redirect, wantsRoute } from './labels.ts';

/** A template has at least so many places for tasks: enough to scale out in a crowd without a reload. */
const SLOTS_MIN = 64;
/** Of the tasks that a service wants, so many times may be there at once while it is updated. */
const SLOTS_PER_TASK = 1.5;
/** Where Swarm mounts secrets whose file name is not a path. */
const SECRETS_FOLDER = '/run/secrets';

const SERVICE_NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/;
/** A name that Docker's name server can be asked for. */
const NETWORK_NAME = /^[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*$/;

/** The files, in the proxy's container, of a certificate and its key; without `key` the first has both. */
export interface Certificate {
  readonly cert: string;
  readonly key?: string;
}

/** The tasks of one service, as servers of a backend. */
export interface Servers {
  readonly service: string;
  readonly fqdn: string;
  readonly port: number;
  /** Places for tasks; 0 is a single server, the service's virtual address. */
  readonly slots: number;
  readonly healthPort?: number;
  readonly connectionsMax?: number;
  readonly tls: 'off' | 'unverified' | 'verified';
}

/** What all services that share a site must agree on. */
export interface SiteSettings {
  readonly rewrites: boolean;
  readonly sslOnly: boolean;
  readonly balance: { readonly by: 'turn' | 'address' } | { readonly by: 'cookie'; readonly cookie: string };
  readonly healthPath?: string;
}

/** What one service wants, and may have as far as it alone is concerned. */
export interface Route {
  readonly service: string;
  /** When two services want the same, the one with the smaller age key has it: it was there first. */
  readonly ageKey: string;
  readonly hosts: readonly string[];
  readonly isDefault: boolean;
  /** `''`, or a path without a slash at its end. */
  readonly root: string;
  readonly isPassthrough: boolean;
  readonly settings: SiteSettings;
  readonly servers: Servers;
  readonly certificate?: Certificate;
  readonly redirects: readonly Redirect[];
  /** The secrets behind `certificate`: what makes the route another one when only they change. */
  readonly secretIds: readonly string[];
}

/** Routes, and the services that have none although they want one, with the reason. */
export interface Routes {
  readonly routes: readonly Route[];
  readonly faults: ReadonlyMap<string, string>;
}

/** There is no telling which service the proxy is. */
export class ProxyFault extends Error {
  override readonly name = 'ProxyFault';
}

/**
 * Finds the proxy and reads the labels of all services of its cluster. A wrong label costs its own service the route.
 *
 * @param cluster `''`, or the value of `service_cluster` that the proxy and the services of this cluster have
 * @throws ProxyFault when not exactly one service of the cluster has the label `com.docker.lb.proxy=true`
 */
export function readRoutes(swarm: Swarm, cluster: string): Routes {
  const services = swarm.services.filter(({ labels }) => clusterOf(labels) === cluster);
  const [proxy, ...others] = services.filter(({ labels }) => isProxy(labels));
  if (!proxy) throw new ProxyFault('no service has the label com.docker.lb.proxy=true');
  if (others.length > 0) throw new ProxyFault('several services have the label com.docker.lb.proxy=true');
  const routes: Route[] = [];
  const faults = new Map<string, string>();
  for (const service of services.filter(({ labels }) => wantsRoute(labels))) {
    try {
      routes.push(routeOf(service, proxy, swarm));
    } catch (error) {
      if (!(error instanceof LabelFault)) throw error;
      faults.set(service.name, error.message);
    }
  }
  return { routes, faults };
}

function routeOf(service: Service, proxy: Service, swarm: Swarm): Route {
  if (!SERVICE_NAME.test(service.name)) throw new LabelFault('the name of the service cannot be a host name');
  const labels = parseLabels(service.labels);
  const network = sharedNetwork(service, proxy, swarm, labels.network);
  if (labels.backendMode === 'vip' && !service.hasVirtualIp) {
    throw new LabelFault('backend_mode vip needs a service with endpoint_mode vip');
  }
  const secrets = [labels.sslCert, labels.sslKey]
    .filter((name) => name !== undefined)
    .map((name) => secretOf(name, service, proxy));
  const [cert, key] = secrets.map(({ file }) => (file.startsWith('/') ? file : `${SECRETS_FOLDER}/${file}`));
  const { healthPort, healthPath, taskConnectionsMax } = labels;
  return {
    service: service.name,
    // Without the Z at its end, a time with more digits sorts behind one with fewer.
    ageKey: `${service.createdAt.replace(/Z$/, '')} ${service.id}`,
    hosts: labels.hosts,
    isDefault: labels.defaultBackend,
    root: labels.contextRoot,
    isPassthrough: labels.sslPassthrough,
    settings: {
      rewrites: labels.contextRootRewrite,
      sslOnly: labels.sslOnly,
      balance: labels.stickySessionCookie
        ? { by: 'cookie', cookie: labels.stickySessionCookie }
        : { by: labels.ipHash ? 'address' : 'turn' },
      ...(healthPath !== undefined && { healthPath }),
    },
    servers: {
      service: service.name,
      fqdn: `${labels.backendMode === 'task' ? 'tasks.' : ''}${service.name}.${network}`,
      port: labels.port,
      slots: labels.backendMode === 'task' ? slotsFor(service.tasksWanted) : 0,
      ...(healthPort !== undefined && { healthPort }),
      ...(taskConnectionsMax !== undefined && { connectionsMax: taskConnectionsMax }),
      tls: !labels.sslBackend ? 'off' : labels.sslBackendTlsVerify === 'required' ? 'verified' : 'unverified',
    },
    ...(cert !== undefined && { certificate: { cert, ...(key !== undefined && { key }) } }),
    redirects: labels.redirects,
    secretIds: secrets.map(({ id }) => id),
  };
}

/** Powers of two, so that a service that scales does not change the configuration each time. */
function slotsFor(tasks: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(SLOTS_MIN, tasks * SLOTS_PER_TASK)));
}

/** The network through which the proxy reaches the service: the one that the label names, or the first that they share. */
function sharedNetwork(service: Service, proxy: Service, swarm: Swarm, wanted: string | undefined): string {
  const shared = service.networks
    .filter((id) => proxy.networks.includes(id))
    .map((id) => swarm.networks.get(id))
    .filter((name) => name !== undefined)
    .toSorted();
  const network =
    wanted === undefined ? shared[0] : namesOf(wanted, service).find((name) => shared.includes(name));
  if (network === undefined) {
    throw new LabelFault(
      wanted === undefined
        ? 'it shares no network with the proxy'
        : 'network names none that the service and the proxy share',
    );
  }
  return NETWORK_NAME.test(network)
    ? network
    : fault('the name of its network cannot be part of a host name');
}

function secretOf(wanted: string, service: Service, proxy: Service) {
  const names = namesOf(wanted, service);
  const found =
    names.map((name) => proxy.secrets.find((secret) => secret.name === name)).find((secret) => secret) ??
    proxy.secrets.find(({ file }) => file === wanted);
  return found ?? fault(`the proxy has no secret ${wanted}`);
}

/** A stack's own networks and secrets may be named without the stack: Docker prefixes them, but not the labels. */
function namesOf(name: string, { stack }: Service): string[] {
  return stack ? [name, `${stack}_${name}`] : [name];
}

function fault(message: string): never {
  throw new LabelFault(message);
}
