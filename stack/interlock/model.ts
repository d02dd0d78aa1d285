import type { Redirect } from './labels.ts';
import type { Certificate, Route, Servers, SiteSettings } from './route.ts';

/** Tasks that answer for some hosts below a path; of one service, or of several that share the work. */
export interface Site {
  /** Unique among sites, and the same for as long as the same services have it. */
  readonly name: string;
  readonly hosts: readonly string[];
  /** Takes what no other site takes. */
  readonly isDefault: boolean;
  readonly root: string;
  readonly isPassthrough: boolean;
  readonly settings: SiteSettings;
  readonly servers: readonly Servers[];
}

/** A redirect, by a name that is unique among sites and redirects. */
export interface NamedRedirect extends Redirect {
  readonly name: string;
}

/** All that the proxy should do. The same routes give the same model in whatever order they come. */
export interface Model {
  readonly sites: readonly Site[];
  readonly redirects: readonly NamedRedirect[];
  readonly certificates: readonly Certificate[];
  /** For clients that name no host, or one that nobody claims; without it they get no TLS. */
  readonly defaultCertificate?: Certificate;
  /** POST requests that a client may send in 10 s; 0 is any number. */
  readonly postRateMax: number;
}

/** A model, and the services that are not in it because an older one has what they want, with the reason. */
export interface Composition {
  readonly model: Model;
  readonly accepted: readonly Route[];
  readonly faults: ReadonlyMap<string, string>;
}

/** Stands for all hosts that nobody claims. A host name has no asterisk. */
const ANY_HOST = '*';

/** What a service takes: a path of a host, for its tasks or for a redirect. */
interface Claim {
  readonly host: string;
  readonly root: string;
  readonly service: string;
  readonly isPassthrough: boolean;
  /** For tasks: what others who want the same must want too. */
  readonly terms?: string;
  /** For redirects. */
  readonly scheme?: 'http' | 'https' | 'both';
}

/** Puts the routes of all services together. Where two contradict each other, the older service has its way. */
export function composeModel(routes: readonly Route[], postRateMax: number): Composition {
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
  return { model: modelOf(accepted, postRateMax), accepted, faults };
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
    return `${claim.host}${claim.root || '/'} belongs to ${other.service} already, ${differenceOf(claim, other)}`;
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

function modelOf(routes: readonly Route[], postRateMax: number): Model {
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
    postRateMax,
  };
}

/** Hosts that the same services claim, below the same path, are one site. */
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

/** Compares by code units: the same everywhere, unlike a locale. */
function byKey<T>(keyOf: (item: T) => string): (a: T, b: T) => number {
  return (a, b) => {
    const [keyA, keyB] = [keyOf(a), keyOf(b)];
    return keyA < keyB ? -1 : keyA > keyB ? 1 : 0;
  };
}
