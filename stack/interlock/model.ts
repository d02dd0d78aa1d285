import type { Redirect } from './labels.ts';
import type { Certificate, Route, Servers, SiteSettings } from './route.ts';

/** Tasks that serve a set of hosts below a path; of one service, or of several that share the requests. */
export interface Site {
  /** Unique among sites, and stable while the same services share it. */
  readonly name: string;
  readonly hosts: readonly string[];
  /** Serves requests that no other site matches. */
  readonly isDefault: boolean;
  readonly root: string;
  readonly isPassthrough: boolean;
  readonly settings: SiteSettings;
  readonly servers: readonly Servers[];
}

/** A redirect; its name is unique among sites and redirects. */
export interface NamedRedirect extends Redirect {
  readonly name: string;
}

/** The operator's settings for all sites. */
export interface EdgeSettings {
  /** Most POST requests of a client in 10 s; 0 means no limit. */
  readonly postRateMax: number;
  /** Networks with a limit of their own, such as those of carriers that share an address among many clients. */
  readonly postRateNetworks: readonly { readonly network: string; readonly max: number }[];
  /** Networks whose `X-Forwarded-For` and `-Proto` are believed, such as those of a CDN. */
  readonly trustedProxies: readonly string[];
  /** Networks of load balancers that begin every connection with a PROXY protocol header. */
  readonly proxyProtocolFrom: readonly string[];
}

/** A version of HAProxy: major and minor. */
export type Version = readonly [major: number, minor: number];

/** What holds for all sites. */
export interface Edge extends EdgeSettings {
  /** Proxies that share the requests; each enforces its share of every limit. At least 1. */
  readonly proxies: number;
  /** The version of this controller's HAProxy, such as 2.6. */
  readonly version: Version;
}

/** Everything that the proxy routes. It does not depend on the order of the routes. */
export interface Model {
  readonly sites: readonly Site[];
  readonly redirects: readonly NamedRedirect[];
  readonly certificates: readonly Certificate[];
  /** For clients without SNI, or with a host that no service claims; without it they get no TLS. */
  readonly defaultCertificate?: Certificate;
  readonly edge: Edge;
}

/** A model, and the reason for each service that lost a conflict with an older one. */
export interface Composition {
  readonly model: Model;
  readonly accepted: readonly Route[];
  readonly faults: ReadonlyMap<string, string>;
}

/** Stands for all hosts that no service claims. A host name has no asterisk. */
const ANY_HOST = '*';

/** A path of a host that a service claims, for its tasks or for a redirect. */
interface Claim {
  readonly host: string;
  readonly root: string;
  readonly service: string;
  readonly isPassthrough: boolean;
  /** For tasks: the settings that other claimants must share. */
  readonly terms?: string;
  /** For redirects. */
  readonly scheme?: 'http' | 'https' | 'both';
}

/** Merges the routes of all services. Of two that contradict each other, the older service's wins. */
export function composeModel(routes: readonly Route[], edge: Edge): Composition {
  const accepted: Route[] = [];
  const faults = new Map<string, string>();
  const claims: Claim[] = [];
  for (const route of routes.toSorted(byKey(({ ageKey }) => ageKey))) {
    const wanted = claimsOf(route);
    const conflict = wanted
      .map((claim, index) => conflictWith(claim, [...claims, ...wanted.slice(0, index)]))
      .find((reason) => reason !== undefined);
    if (conflict !== undefined) {
      faults.set(route.service, conflict);
      continue;
    }
    claims.push(...wanted);
    accepted.push(route);
  }
  return { model: modelOf(accepted, edge), accepted, faults };
}

function claimsOf(route: Route): Claim[] {
  const { service, root, isPassthrough, settings, redirects } = route;
  const hosts = route.isDefault ? [...route.hosts, ANY_HOST] : route.hosts;
  const terms = JSON.stringify([isPassthrough, settings]);
  return [
    ...hosts.map((host) => ({ host, root, service, isPassthrough, terms })),
    ...redirects.map(({ from }) => ({
      host: from.host,
      root: from.root,
      service,
      isPassthrough,
      scheme: from.scheme ?? ('both' as const),
    })),
  ];
}

function conflictWith(claim: Claim, claims: readonly Claim[]): string | undefined {
  for (const other of claims.filter(({ host }) => host === claim.host)) {
    if (other.isPassthrough !== claim.isPassthrough) {
      return `${claim.host} belongs to ${other.service}, with another ssl_passthrough`;
    }
    if (other.root !== claim.root || canShare(claim, other)) continue;
    return `${claim.host}${claim.root || '/'} already belongs to ${other.service}, ${differenceOf(claim, other)}`;
  }
  return undefined;
}

function canShare(claim: Claim, other: Claim): boolean {
  if (claim.terms !== undefined && other.terms !== undefined) return claim.terms === other.terms;
  // A service may redirect one scheme of its own site to the other.
  if (claim.service !== other.service || claim.scheme === 'both' || other.scheme === 'both') return false;
  return claim.scheme !== other.scheme;
}

function differenceOf(claim: Claim, other: Claim): string {
  return claim.terms !== undefined && other.terms !== undefined ? 'with other settings' : 'and is redirected';
}

function modelOf(routes: readonly Route[], edge: Edge): Model {
  const certificates = new Map<string, Certificate>();
  for (const { certificate } of routes) {
    if (certificate) certificates.set(JSON.stringify(certificate), certificate);
  }
  const defaultCertificate = routes.find(
    ({ isDefault, certificate }) => isDefault && certificate,
  )?.certificate;
  return {
    sites: sitesOf(routes),
    redirects: routes
      .toSorted(byKey(({ service }) => service))
      .flatMap(({ service, redirects }) =>
        redirects.map((redirect, index) => ({ ...redirect, name: `${service}.redirect-${index + 1}` })),
      ),
    certificates: [...certificates].toSorted(byKey(([key]) => key)).map(([, certificate]) => certificate),
    ...(defaultCertificate && { defaultCertificate }),
    edge,
  };
}

/** Groups hosts that the same services claim below the same path into one site. */
function sitesOf(routes: readonly Route[]): Site[] {
  const claimants = new Map<string, Route[]>();
  for (const route of routes.toSorted(byKey(({ service }) => service))) {
    for (const host of route.isDefault ? [...route.hosts, ANY_HOST] : route.hosts) {
      const key = `${host}${route.root}`;
      claimants.set(key, [...(claimants.get(key) ?? []), route]);
    }
  }
  const sites = new Map<string, Site>();
  for (const [key, members] of [...claimants].toSorted(byKey(([place]) => place))) {
    const [first] = members;
    if (!first) continue;
    const host = key.slice(0, key.length - first.root.length);
    const name = `${members.map(({ service }) => service).join(':')}${first.isPassthrough ? '.tls' : ''}`;
    const site = sites.get(name);
    sites.set(name, {
      name,
      hosts: host === ANY_HOST ? (site?.hosts ?? []) : [...(site?.hosts ?? []), host],
      isDefault: host === ANY_HOST || (site?.isDefault ?? false),
      root: first.root,
      isPassthrough: first.isPassthrough,
      settings: first.settings,
      servers: members.map(({ servers }) => servers),
    });
  }
  return [...sites.values()].toSorted(byKey(({ name }) => name));
}

/** Compares by code units, which no locale changes. */
function byKey<T>(keyOf: (item: T) => string): (a: T, b: T) => number {
  return (a, b) => {
    const [keyA, keyB] = [keyOf(a), keyOf(b)];
    return keyA < keyB ? -1 : keyA > keyB ? 1 : 0;
  };
}
