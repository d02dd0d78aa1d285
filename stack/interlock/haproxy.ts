import { createHash } from 'node:crypto';
import type { Edge, Model, NamedRedirect, Site, Version } from './model.ts';
import type { Certificate, Servers } from './route.ts';

/** Names with a dot are reserved: the name of a service has none. */
const WEB = 'web.http';
const TLS = 'web.tls';
const WORDS_PER_LINE = 40;
const TLS_ENDS_HERE = 'web.tls-ends-here';
const UNKNOWN_HOST = 'web.unknown-host';
const POST_RATE = 'web.post-rate';
/** Whether the client's connection, to this proxy or a trusted one before it, uses TLS. */
const TLS_CLIENT = '{ var(txn.tls) -m bool }';
/** A home or a device has an IPv6 /64, in which it may use any address. */
const CLIENT = 'src,ipmask(32,64)';

/** A word that HAProxy expands from its environment; `proxy.cfg` sets the defaults. */
const fromEnvironment = (name: string, before = '', after = ''): string => `"${before}\${${name}}${after}"`;
const TLS_SOCKET = fromEnvironment('PROXY_DIR', 'unix@', '/tls.sock');
/** Clients whose POST rate is tracked; the oldest is evicted for a new one. About 150 bytes each. */
const POST_RATE_CLIENTS_MAX = 500_000;

/** Hash by the address of a task. Before, the slot of a task is hashed, on which two proxies do not agree. */
const HASH_KEY_SINCE: Version = [3, 0];
/** Start new tasks as down until their first check. */
const INIT_STATE_SINCE: Version = [3, 1];

/** The links by which HAProxy finds a certificate and, beside it under its own name, the key. */
export interface CertificateLinks {
  /** Names and targets of links in the folder `tls` of the proxy's folder. */
  readonly links: Readonly<Record<string, string>>;
  readonly crt: string;
}

/** HAProxy expects the key beside the certificate; Swarm mounts them elsewhere. The names depend on the paths only. */
export function linksOf({ cert, key }: Certificate): CertificateLinks {
  const hash = createHash('sha256')
    .update(JSON.stringify([cert, key]))
    .digest('hex')
    .slice(0, 16);
  const crt = `${hash}.pem`;
  return { crt, links: { [crt]: cert, ...(key !== undefined && { [`${crt}.key`]: key }) } };
}

/**
 * Renders the part of HAProxy's configuration that depends on the routes; `proxy.cfg` holds the rest. `labels.ts` and
 * `route.ts` have validated every word of a service, so none has a character with a meaning to HAProxy.
 */
export function renderRoutes(model: Model): string {
  const passthroughs = model.sites.filter(({ isPassthrough }) => isPassthrough);
  const sections = [
    ['# Rendered by interlock from the labels of the services; it overwrites manual changes.'],
    ...(hasPostLimit(model.edge) ? [postRate()] : []),
    web(model, passthroughs.length > 0),
    ...(passthroughs.length > 0 ? tls(passthroughs, model.certificates.length > 0, model.edge) : []),
    [`backend ${UNKNOWN_HOST} from common`, '  http-request deny deny_status 404'],
    ...model.redirects.map(redirect),
    ...model.sites.flatMap((site) =>
      site.isPassthrough ? passthrough(site, model.edge) : [backend(site, model.edge)],
    ),
  ];
  return `${sections.map((lines) => lines.join('\n')).join('\n\n')}\n`;
}

/** A reload resets the counters: peers do not carry them over in 2.6.12. */
function postRate(): string[] {
  return [
    `backend ${POST_RATE} from common`,
    `  stick-table type ipv6 size ${POST_RATE_CLIENTS_MAX} expire 10s store http_req_rate(10s)`,
  ];
}

/** The header is required from these load balancers and invalid from others, who could forge an address with it. */
function proxyProtocol({ proxyProtocolFrom }: Edge): string[] {
  if (proxyProtocolFrom.length === 0) return [];
  return [
    ...acl('from-load-balancer', 'src', proxyProtocolFrom),
    '  tcp-request connection expect-proxy layer4 if from-load-balancer',
  ];
}

/**
 * Takes the client's address and scheme from the headers of trusted proxies. A proxy appends to what its own client sent, so
 * only the last entry is credible.
 */
function forwardedClient({ trustedProxies }: Edge): string[] {
  if (trustedProxies.length === 0) return [];
  const isTrusted = 'from-trusted-proxy';
  const says = (scheme: string): string => `{ req.hdr(x-forwarded-proto,-1) -i -m str ${scheme} }`;
  return [
    ...acl(isTrusted, 'src', trustedProxies),
    `  http-request set-var(txn.tls) bool(true) if ${isTrusted} ${says('https')}`,
    `  http-request unset-var(txn.tls) if ${isTrusted} ${says('http')}`,
    // Last, because it changes the address that the condition is about.
    `  http-request set-src req.hdr_ip(x-forwarded-for,-1) if ${isTrusted}`,
  ];
}

/** Lines of the same name are alternatives. */
function acl(name: string, fetch: string, networks: readonly string[]): string[] {
  return inLines(networks).map((some) => `  acl ${name} ${fetch} ${some}`);
}

function hasPostLimit({ postRateMax, postRateNetworks }: Edge): boolean {
  return postRateMax > 0 || postRateNetworks.some(({ max }) => max > 0);
}

/** A client's rate counts only what passes, so a client above its limit still gets the limit. */
function postLimit(edge: Edge): string[] {
  const networks = edge.postRateNetworks;
  const denyAbove = (max: number, who: string): string[] =>
    max === 0
      ? []
      : [
          `  http-request deny deny_status 429 if METH_POST${who} { ${CLIENT},table_http_req_rate(${POST_RATE}) ge ${shareOf(max, edge)} }`,
        ];
  return [
    ...acl(
      'has-own-limit',
      'src',
      networks.map(({ network }) => network),
    ),
    ...networks.flatMap(({ network, max }) => denyAbove(max, ` { src ${network} }`)),
    ...denyAbove(edge.postRateMax, networks.length > 0 ? ' !has-own-limit' : ''),
    `  http-request track-sc0 ${CLIENT} table ${POST_RATE} if METH_POST`,
  ];
}

/** The part of a limit that one proxy enforces, rounded up. */
function shareOf(max: number, { proxies }: Edge): number {
  return Math.ceil(max / proxies);
}

/** The frontend of all sites, with and without TLS. */
function web(model: Model, hasPassthrough: boolean): string[] {
  const { edge, sites } = model;
  const fallback = sites.find(({ isDefault }) => isDefault);
  return [
    `frontend ${WEB} from web`,
    `  bind ${fromEnvironment('PROXY_HTTP')} v6only`,
    ...(model.certificates.length > 0 ? [bindTls(model, hasPassthrough)] : []),
    ...proxyProtocol(edge),
    ...forwardedClient(edge),
    ...(hasPostLimit(edge) ? postLimit(edge) : []),
    ...rules(model),
    `  default_backend ${fallback?.name ?? UNKNOWN_HOST}`,
  ];
}

function bindTls({ certificates, defaultCertificate }: Model, hasPassthrough: boolean): string {
  // Without strict-sni HAProxy presents the first certificate to clients whose host matches none.
  const first = defaultCertificate && linksOf(defaultCertificate).crt;
  const others = certificates.map((certificate) => linksOf(certificate).crt).filter((crt) => crt !== first);
  const crts = [...(first === undefined ? [] : [first]), ...others]
    .map((crt) => ` crt ${fromEnvironment('PROXY_DIR', '', `/tls/${crt}`)}`)
    .join('');
  const address = hasPassthrough
    ? `${TLS_SOCKET} mode 600 accept-proxy`
    : `${fromEnvironment('PROXY_HTTPS')} v6only`;
  return `  bind ${address} ssl alpn h2,http/1.1${first === undefined ? ' strict-sni' : ''}${crts}`;
}

/** Rules from host and path to a backend: longer paths first, and redirects before sites of the same path. */
function rules({ sites, redirects }: Model): string[] {
  const entries = [
    ...redirects.map(({ name, from }) => ({
      name,
      hosts: [from.host],
      root: from.root,
      order: 0,
      scheme: from.scheme,
    })),
    ...sites
      .filter(
        ({ hosts, isPassthrough, settings }) => hosts.length > 0 && (!isPassthrough || settings.sslOnly),
      )
      .map(({ name, hosts, root, isPassthrough }) => ({
        name: isPassthrough ? `${name}-redirect` : name,
        hosts,
        root,
        order: 1,
        scheme: undefined,
      })),
  ];
  return entries
    .toSorted((a, b) => b.root.length - a.root.length || a.order - b.order || (a.name < b.name ? -1 : 1))
    .flatMap(({ name, hosts, root, scheme }) =>
      inLines(hosts).map((some) => {
        const conditions = [
          `{ var(txn.host) -m str ${some} }`,
          // With a trailing slash on both, /api is a prefix of /api and /api/x but not of /apix.
          ...(root ? [`{ path,concat(/) -m beg ${root}/ }`] : []),
          ...(scheme ? [`${scheme === 'http' ? '!' : ''}${TLS_CLIENT}`] : []),
        ];
        return `  use_backend ${name} if ${conditions.join(' ')}`;
      }),
    );
}

/** Splits words over lines: HAProxy accepts 64 per line. */
function inLines(words: readonly string[]): string[] {
  return Array.from({ length: Math.ceil(words.length / WORDS_PER_LINE) }, (_, line) =>
    words.slice(line * WORDS_PER_LINE, (line + 1) * WORDS_PER_LINE).join(' '),
  );
}

/** Routes connections by SNI to tasks that terminate TLS themselves; others continue to the frontend above. */
function tls(sites: readonly Site[], hasCertificates: boolean, edge: Edge): string[][] {
  return [
    [
      `frontend ${TLS} from passthrough`,
      `  bind ${fromEnvironment('PROXY_HTTPS')} v6only`,
      ...proxyProtocol(edge),
      '  tcp-request inspect-delay 5s',
      '  tcp-request content accept if { req.ssl_hello_type 1 }',
      '  tcp-request content reject',
      ...sites.flatMap(({ name, hosts }) =>
        inLines(hosts).map((some) => `  use_backend ${name} if { req.ssl_sni,lower -m str ${some} }`),
      ),
      ...(hasCertificates ? [`  default_backend ${TLS_ENDS_HERE}`] : []),
    ],
    ...(hasCertificates
      ? [
          [
            `backend ${TLS_ENDS_HERE} from passthrough`,
            // Passes on the client's address, which the socket hides.
            `  server here ${TLS_SOCKET} no-check send-proxy-v2`,
          ],
        ]
      : []),
  ];
}

function redirect({ name, to, keepsPath }: NamedRedirect): string[] {
  return [
    `backend ${name} from common`,
    `  http-request redirect ${keepsPath ? 'prefix' : 'location'} ${to} code 302`,
  ];
}

const TO_HTTPS = '  http-request redirect prefix https://%[var(txn.host)] code 307';

function backend({ name, hosts, root, settings, servers }: Site, edge: Edge): string[] {
  const { sslOnly, rewrites } = settings;
  return [
    `backend ${name} from site`,
    ...balance(settings),
    ...health(settings, hosts),
    // 307 keeps the method, and browsers do not cache it in case the site drops TLS.
    ...(sslOnly ? [`${TO_HTTPS} unless ${TLS_CLIENT}`] : []),
    // The key is host and path: as the client sent them, since two sites of a host may share what is left of their paths.
    '  http-request cache-use public',
    // HAProxy would keep a public answer with a cookie, and give the cookie to everybody.
    '  http-response cache-store public unless { res.hdr(set-cookie) -m found }',
    ...(rewrites ? strip(root) : []),
    ...servers.map((group) => serverLine(group, hosts, settings, edge)),
  ];
}

function passthrough({ name, hosts, settings, servers }: Site, edge: Edge): string[][] {
  return [
    [
      `backend ${name} from passthrough`,
      ...balance(settings),
      ...health(settings, hosts),
      ...servers.map((group) => serverLine(group, hosts, settings, edge)),
    ],
    ...(settings.sslOnly ? [[`backend ${name}-redirect from common`, TO_HTTPS]] : []),
  ];
}

function balance({ balance: { by, ...rest } }: Site['settings']): string[] {
  if (by === 'round-robin') return [];
  // Consistent hashing: when a task is added or removed, only its share of the clients moves.
  const how = by === 'address' ? 'source' : `hash req.cook(${(rest as { cookie: string }).cookie})`;
  return [`  balance ${how}`, '  hash-type consistent'];
}

function health({ healthPath }: Site['settings'], hosts: readonly string[]): string[] {
  if (healthPath === undefined) return [];
  const [host = 'localhost'] = hosts;
  return ['  option httpchk', `  http-check send meth GET uri ${healthPath} hdr Host ${host}`];
}

/** Strips the context root, and applies the rule for admin paths to the rest. */
function strip(root: string): string[] {
  const pattern = `^${root.replaceAll('.', '[.]')}(?:/|$)(.*)`;
  return [
    `  http-request replace-path '${pattern}' '/\\1'`,
    `  http-request deny deny_status 404 if { path,url_dec -m reg -i '^/+(healthz|readyz|startupz|metrics)([/;]|$)' }`,
  ];
}

function serverLine(
  servers: Servers,
  hosts: readonly string[],
  { balance: { by } }: Site['settings'],
  edge: Edge,
): string {
  const { service, fqdn, port, slots, healthPort, connectionsMax } = servers;
  const has = ([major, minor]: Version): boolean =>
    edge.version[0] > major || (edge.version[0] === major && edge.version[1] >= minor);
  const name = slots > 0 ? `server-template ${service}. ${slots}` : `server ${service}.vip`;
  const options = [
    ...(healthPort === undefined ? [] : [`port ${healthPort}`]),
    ...(connectionsMax === undefined ? [] : [`maxconn ${shareOf(connectionsMax, edge)}`]),
    ...(by !== 'round-robin' && has(HASH_KEY_SINCE) ? ['hash-key addr'] : []),
    ...(has(INIT_STATE_SINCE) ? ['init-state down'] : []),
    ...tlsOptions(servers, hosts),
  ];
  return [`  ${name} ${fqdn}:${port}`, ...options].join(' ');
}

/** A task's certificate must match the host of the request. */
function tlsOptions({ tls: mode, service }: Servers, hosts: readonly string[]): string[] {
  if (mode === 'off') return [];
  const [host = service] = hosts;
  const verify =
    mode === 'verified' ? `verify required ca-file ${fromEnvironment('PROXY_BACKEND_CA')}` : 'verify none';
  return [`ssl ${verify} sni var(txn.host) check-sni ${host}`];
}
