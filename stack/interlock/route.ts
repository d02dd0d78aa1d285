import type { Service, Swarm } from './docker.ts';
import {
  clusterOf,
  isProxy,
  LabelFault,
  type Labels,
  parseLabels,
  type Redirect,
  wantsRoute,
} from './labels.ts';

/** Fewest server slots of a service: enough to scale out under a crowd without a reload. */
const SLOTS_MIN = 64;
/** An update may run this multiple of the wanted tasks at once. */
const SLOTS_PER_TASK = 1.5;
/** Where Swarm mounts secrets with a relative file name. */
const SECRETS_FOLDER = '/run/secrets';

const SERVICE_NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/;
/** A name that Docker's name server can resolve. */
const NETWORK_NAME = /^[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*$/;

/** Files of a certificate and its key in the proxy's container; without `key`, `cert` holds both. */
export interface Certificate {
  readonly cert: string;
  readonly key?: string;
}

/** The tasks of one service, as servers of a backend. */
export interface Servers {
  readonly service: string;
  readonly fqdn: string;
  readonly port: number;
  /** Slots for tasks; 0 means a single server, the service's virtual IP. */
  readonly slots: number;
  readonly healthPort?: number;
  readonly connectionsMax?: number;
  readonly tls: 'off' | 'unverified' | 'verified';
}

/** Settings that all services of a site must share. */
export interface SiteSettings {
  readonly rewrites: boolean;
  readonly sslOnly: boolean;
  readonly balance:
    | { readonly by: 'round-robin' | 'address' }
    | { readonly by: 'cookie'; readonly cookie: string };
  readonly healthPath?: string;
}

/** The route of one service, valid by itself; conflicts with others are resolved in `model.ts`. */
export interface Route {
  readonly service: string;
  /** Of two conflicting services the one with the smaller key, which is the older one, wins. */
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
  /** Ids of the contents of `certificate`, so that a route differs when only these changed. */
  readonly secretIds: readonly string[];
}

/** A certificate of the controller: its file in the proxy's container, and an id of its content. */
export interface OwnCertificate {
  readonly file: string;
  readonly id: string;
}

/** Routes, and the reason for each service whose labels are faulty. */
export interface Routes {
  readonly routes: readonly Route[];
  /** Tasks that the Swarm wants of the proxy's service, at least 1: the one that runs this controller's proxy. */
  readonly proxies: number;
  readonly faults: ReadonlyMap<string, string>;
}

/** No service, or more than one, is marked as the proxy. */
export class ProxyNotFoundError extends Error {
  override readonly name = 'ProxyNotFoundError';
}

/**
 * Finds the proxy and parses the labels of all services of its cluster. A wrong label disables its own service only.
 *
 * @param cluster `''`, or the value of `service_cluster` of the proxy and the services of this cluster
 * @param own the controller's certificates by name; a label prefers them to secrets of the proxy
 * @throws ProxyNotFoundError unless exactly one service of the cluster has the label `com.docker.lb.proxy=true`
 */
export function readRoutes(
  swarm: Swarm,
  cluster: string,
  own: ReadonlyMap<string, OwnCertificate> = new Map(),
): Routes {
  const services = swarm.services.filter(({ labels }) => clusterOf(labels) === cluster);
  const [proxy, ...others] = services.filter(({ labels }) => isProxy(labels));
  if (!proxy) throw new ProxyNotFoundError('no service has the label com.docker.lb.proxy=true');
  if (others.length > 0)
    throw new ProxyNotFoundError('several services have the label com.docker.lb.proxy=true');
  const routes: Route[] = [];
  const faults = new Map<string, string>();
  for (const service of services.filter(({ labels }) => wantsRoute(labels))) {
    try {
      routes.push(routeOf(service, proxy, swarm, own));
    } catch (error) {
      if (!(error instanceof LabelFault)) throw error;
      faults.set(service.name, error.message);
    }
  }
  return { routes, proxies: Math.max(1, proxy.tasksWanted), faults };
}

function routeOf(
  service: Service,
  proxy: Service,
  swarm: Swarm,
  own: ReadonlyMap<string, OwnCertificate>,
): Route {
  if (!SERVICE_NAME.test(service.name)) throw new LabelFault('the service name is not a valid host name');
  const labels = parseLabels(service.labels);
  const network = sharedNetwork(service, proxy, swarm, labels.network);
  if (labels.backendMode === 'vip' && !service.hasVirtualIp) {
    throw new LabelFault('backend_mode vip needs a service with endpoint_mode vip');
  }
  const files = certificateOf(labels, service, proxy, own);
  const [cert, key] = files.map(({ file }) => file);
  const { healthPort, healthPath, taskConnectionsMax } = labels;
  return {
    service: service.name,
    // Without the trailing Z, a time with more digits sorts after one with fewer.
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
        : { by: labels.ipHash ? 'address' : 'round-robin' },
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
    secretIds: files.map(({ id }) => id),
  };
}

/** Rounds up to a power of two, so that most changes of scale do not change the configuration. */
function slotsFor(tasks: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(SLOTS_MIN, tasks * SLOTS_PER_TASK)));
}

/** Returns the network through which the proxy reaches the service: the label's, or the first that both share. */
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
        : 'network must name one that the service and the proxy share',
    );
  }
  return NETWORK_NAME.test(network) ? network : fault('the network name is not valid in a host name');
}

/** Returns the files of the certificate in the proxy's container: one with both, or certificate and key; none without labels. */
function certificateOf(
  { sslCert, sslKey }: Labels,
  service: Service,
  proxy: Service,
  own: ReadonlyMap<string, OwnCertificate>,
): OwnCertificate[] {
  const certificate = sslCert === undefined ? undefined : own.get(sslCert);
  if (certificate) return [certificate];
  return [sslCert, sslKey]
    .filter((name) => name !== undefined)
    .map((name) => {
      const { id, file } = secretOf(name, service, proxy);
      return { id, file: file.startsWith('/') ? file : `${SECRETS_FOLDER}/${file}` };
    });
}

function secretOf(wanted: string, service: Service, proxy: Service) {
  const names = namesOf(wanted, service);
  const found =
    names.map((name) => proxy.secrets.find((secret) => secret.name === name)).find((secret) => secret) ??
    proxy.secrets.find(({ file }) => file === wanted);
  return found ?? fault(`there is no certificate ${wanted}, and the proxy has no such secret`);
}

/** Docker prefixes a stack's networks and secrets with its name, but not the labels, so a label may omit the prefix. */
function namesOf(name: string, { stack }: Service): string[] {
  return stack ? [name, `${stack}_${name}`] : [name];
}

function fault(message: string): never {
  throw new LabelFault(message);
}
