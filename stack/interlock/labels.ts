/** Prefix of the labels. */
const PREFIX = 'com.docker.lb.';
/** Marks the proxy itself; it is not a route. */
const PROXY = 'proxy';

/** Longest list in a label, so that no service fills the proxy's memory. */
const LIST_MAX = 100;

/** Source of a redirect: a host, one scheme or both, and a path prefix (`''` for every path). */
interface Source {
  readonly scheme?: 'http' | 'https';
  readonly host: string;
  readonly root: string;
}

export interface Redirect {
  readonly from: Source;
  /** Target URL. */
  readonly to: string;
  /** Whether path and query of the request are kept. */
  readonly keepsPath: boolean;
}

/** The parsed labels of a service. */
export interface Labels {
  readonly hosts: readonly string[];
  readonly port: number;
  readonly network?: string;
  /** `''`, or a path without a trailing slash. */
  readonly contextRoot: string;
  readonly contextRootRewrite: boolean;
  readonly sslCert?: string;
  readonly sslKey?: string;
  readonly sslOnly: boolean;
  readonly sslPassthrough: boolean;
  readonly sslBackend: boolean;
  readonly sslBackendTlsVerify: 'none' | 'required';
  readonly redirects: readonly Redirect[];
  readonly stickySessionCookie?: string;
  readonly ipHash: boolean;
  readonly backendMode: 'task' | 'vip';
  readonly defaultBackend: boolean;
  readonly healthPort?: number;
  readonly healthPath?: string;
  readonly taskConnectionsMax?: number;
}

/** Every fault of a service's labels, in one message for its operator. */
export class LabelFault extends Error {
  override readonly name = 'LabelFault';
}

const fault = (expected: string): never => {
  throw new LabelFault(`must be ${expected}`);
};

/**
 * Accepts a text only if all of it matches a form. Every text in the proxy's configuration passes through here, and no form
 * permits a space, quote, newline or other character with a meaning there.
 */
const matching =
  (form: RegExp, expected: string) =>
  (text: string): string =>
    form.test(text) ? text : fault(expected);

const HOST = /^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$/;
const PATH = /^(\/(?!\.{1,2}(\/|$))[A-Za-z0-9._~-]+)+$/;
const TARGET = /^https?:\/\/[a-z0-9_.-]+(:\d{1,5})?(\/[A-Za-z0-9._~/?=&+-]*)?$/;

const name = matching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/, 'a name of letters, digits, dots, hyphens');
const host = (text: string): string => matching(HOST, 'a host name')(text.toLowerCase());
const path = (text: string): string => (text === '/' ? '' : matching(PATH, 'a path')(trimSlash(text)));
const cookie = matching(/^[A-Za-z0-9_.-]{1,64}$/, 'the name of a cookie');

const integer =
  (max: number) =>
  (text: string): number =>
    /^[1-9]\d{0,6}$/.test(text) && Number(text) <= max
      ? Number(text)
      : fault(`a whole number from 1 to ${max}`);

const boolean = (text: string): boolean =>
  oneOf('true', 'false')(text.toLowerCase() as 'true' | 'false') === 'true';

const oneOf =
  <const T extends string>(...allowed: T[]) =>
  (text: string): T =>
    allowed.find((value) => value === text) ?? fault(allowed.join(' or '));

const listOf =
  <T>(separator: string, parse: (text: string) => T) =>
  (text: string): readonly T[] => {
    const items = text
      .split(separator)
      .map((item) => item.trim())
      .filter(Boolean);
    return items.length > LIST_MAX ? fault(`${LIST_MAX} items at most`) : items.map(parse);
  };

const trimSlash = (text: string): string => (text.endsWith('/') ? text.slice(0, -1) : text);

/** Parses `from,to`: from `[scheme://]host[/path]` to a URL. If neither has a path, the request keeps its own. */
function redirect(text: string): Redirect {
  const [from = '', to = '', ...rest] = text.split(',').map((part) => part.trim());
  const source = /^(?:(https?):\/\/)?([^/]+)(\/.*)?$/i.exec(from);
  const target = to.replace(/^https?:\/\/[^/]*/i, (origin) => origin.toLowerCase());
  if (!source || rest.length > 0 || !TARGET.test(target)) {
    return fault('from,to;from,to with hosts or URLs as sources and URLs as targets');
  }
  const [, scheme, name = '', root = ''] = source;
  const hasPath = trimSlash(root) !== '' || !/^https?:\/\/[^/]*\/?$/.test(target);
  return {
    from: {
      ...(scheme && { scheme: scheme.toLowerCase() as 'http' | 'https' }),
      host: host(name),
      root: root ? path(root) : '',
    },
    to: hasPath ? target : trimSlash(target),
    keepsPath: !hasPath,
  };
}

/** Every label by its name without the prefix. `ignored` accepts labels without an effect here. */
const PARSERS = {
  hosts: listOf(',', host),
  port: integer(65_535),
  network: name,
  context_root: path,
  context_root_rewrite: boolean,
  ssl_cert: name,
  ssl_key: name,
  ssl_only: boolean,
  ssl_passthrough: boolean,
  ssl_backend: boolean,
  ssl_backend_tls_verify: oneOf('none', 'required'),
  redirects: listOf(';', redirect),
  sticky_session_cookie: cookie,
  ip_hash: boolean,
  // HAProxy upgrades any connection if client and task agree.
  websocket_endpoints: (text: string): string => text,
  backend_mode: oneOf('task', 'vip'),
  service_cluster: (text: string): string => text,
  default_backend: boolean,
  health_port: integer(65_535),
  health_path: matching(PATH, 'a path'),
  task_connections_max: integer(100_000),
} as const;

type Values = { -readonly [K in keyof typeof PARSERS]?: ReturnType<(typeof PARSERS)[K]> };

/** Returns the cluster of a service; `''` if it names none. */
export function clusterOf(labels: Readonly<Record<string, string>>): string {
  return labels[`${PREFIX}service_cluster`] ?? '';
}

/** Returns whether these are the labels of the proxy itself. */
export function isProxy(labels: Readonly<Record<string, string>>): boolean {
  return labels[PREFIX + PROXY] === 'true';
}

/** Returns whether the service has any of these labels. */
export function wantsRoute(labels: Readonly<Record<string, string>>): boolean {
  return Object.keys(labels).some((key) => key.startsWith(PREFIX)) && !isProxy(labels);
}

/**
 * Parses the labels of a service.
 *
 * @param labels all labels; those without the prefix are ignored
 * @throws LabelFault listing every fault. An unknown label is one: a misspelt `ssl_only` must not open a site to plain HTTP.
 */
export function parseLabels(labels: Readonly<Record<string, string>>): Labels {
  const faults: string[] = [];
  const values: Values = {};
  for (const [key, text] of Object.entries(labels).toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    if (!key.startsWith(PREFIX)) continue;
    const label = key.slice(PREFIX.length) as keyof Values;
    try {
      if (!Object.hasOwn(PARSERS, label)) throw new LabelFault('is an unknown label');
      Object.assign(values, { [label]: PARSERS[label](text.trim()) });
    } catch (error) {
      if (!(error instanceof LabelFault)) throw error;
      faults.push(`${label.replace(/[^\w.-]/g, '?').slice(0, 64)} ${error.message}`);
    }
  }
  if (faults.length === 0) faults.push(...contradictionsOf(values));
  if (faults.length > 0) throw new LabelFault(faults.join('; '));
  return toLabels(values);
}

/** Returns the labels that contradict each other. */
function contradictionsOf(values: Values): string[] {
  const hasHost = (values.hosts?.length ?? 0) > 0;
  const ends = values.ssl_cert !== undefined;
  const passes = values.ssl_passthrough === true;
  const checks: readonly [isWrong: boolean, message: string][] = [
    [!hasHost && !values.default_backend, 'hosts is missing'],
    [values.port === undefined, 'port is missing'],
    [values.ssl_key !== undefined && !ends, 'ssl_key needs ssl_cert'],
    [values.ssl_only === true && !ends && !passes, 'ssl_only needs ssl_cert or ssl_passthrough'],
    [passes && ends, 'ssl_passthrough excludes ssl_cert'],
    [passes && values.ssl_backend === true, 'ssl_passthrough excludes ssl_backend'],
    [passes && !hasHost, 'ssl_passthrough needs hosts'],
    [passes && values.default_backend === true, 'ssl_passthrough excludes default_backend'],
    [passes && Boolean(values.context_root), 'ssl_passthrough excludes context_root'],
    [passes && values.sticky_session_cookie !== undefined, 'ssl_passthrough excludes sticky_session_cookie'],
    [passes && (values.redirects?.length ?? 0) > 0, 'ssl_passthrough excludes redirects'],
    [
      values.ip_hash === true && values.sticky_session_cookie !== undefined,
      'ip_hash excludes sticky_session_cookie',
    ],
    [
      values.default_backend === true && Boolean(values.context_root),
      'default_backend excludes context_root',
    ],
    [values.context_root_rewrite === true && !values.context_root, 'context_root_rewrite needs context_root'],
    [values.health_port !== undefined && values.health_path === undefined, 'health_port needs health_path'],
    [
      values.ssl_backend_tls_verify === 'required' && !values.ssl_backend,
      'ssl_backend_tls_verify needs ssl_backend',
    ],
  ];
  return checks.filter(([isWrong]) => isWrong).map(([, message]) => message);
}

function toLabels(values: Values): Labels {
  const { network, ssl_cert, ssl_key, sticky_session_cookie, health_port, health_path } = values;
  const { task_connections_max } = values;
  return {
    hosts: [...new Set(values.hosts)].toSorted(),
    port: values.port ?? 0,
    ...(network !== undefined && { network }),
    contextRoot: values.context_root ?? '',
    contextRootRewrite: values.context_root_rewrite ?? false,
    ...(ssl_cert !== undefined && { sslCert: ssl_cert }),
    ...(ssl_key !== undefined && { sslKey: ssl_key }),
    sslOnly: values.ssl_only ?? false,
    sslPassthrough: values.ssl_passthrough ?? false,
    sslBackend: values.ssl_backend ?? false,
    sslBackendTlsVerify: values.ssl_backend_tls_verify ?? 'none',
    redirects: values.redirects ?? [],
    ...(sticky_session_cookie !== undefined && { stickySessionCookie: sticky_session_cookie }),
    ipHash: values.ip_hash ?? false,
    backendMode: values.backend_mode ?? 'task',
    defaultBackend: values.default_backend ?? false,
    ...(health_port !== undefined && { healthPort: health_port }),
    ...(health_path !== undefined && { healthPath: health_path }),
    ...(task_connections_max !== undefined && { taskConnectionsMax: task_connections_max }),
  };
}
