import { createPublicKey, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import {
  CAPTURE_BUFFER_CEILING,
  CAPTURE_BUFFER_DEFAULT,
  VOTES_PER_JOB_CEILING,
  VOTES_PER_JOB_DEFAULT,
} from './capture-limits.ts';
import { CHALLENGE_SERVICES, type Challenge } from './challenges.ts';
import { Secret } from './secret.ts';
import { parseSocketAddress } from './socket-address.ts';
import { parseUser, type User } from './users.ts';

/** Parses the text of a setting; throws a `SettingFault` that states the expected form. */
type Parse<T> = (text: string) => T;

/** A setting of a process: its name, its parser and its default. */
export interface Setting<T> {
  readonly name: string;
  readonly parse: Parse<T>;
  /** The text of an absent setting; without it, absence is a fault. */
  readonly fallback?: string;
}

/** The result of `readConfig`. */
export type Config<S extends Record<string, Setting<unknown>>> = {
  readonly [K in keyof S]: S[K] extends Setting<infer T> ? T : never;
};

/** Every fault of the configuration, in one message for the operator. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly faults: readonly string[];

  constructor(faults: readonly string[]) {
    super(`configuration: ${faults.join('; ')}`);
    this.faults = faults;
  }
}

class SettingFault extends Error {}

const fault = (expected: string): never => {
  throw new SettingFault(`must be ${expected}`);
};

/**
 * Reads settings from the environment: `NAME`, or the file named by `NAME_FILE` (how a Swarm secret arrives).
 *
 * @param settings the settings by their key in the result
 * @param environment `process.env`, which is read nowhere else in the processes that ship
 * @throws ConfigError listing every fault, without any value
 */
export function readConfig<S extends Record<string, Setting<unknown>>>(
  settings: S,
  environment: NodeJS.ProcessEnv = process.env,
): Config<S> {
  const faults: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [key, setting] of Object.entries(settings)) {
    try {
      const text = readText(setting.name, environment) ?? setting.fallback;
      if (text === undefined) throw new SettingFault(`is missing (set it, or ${setting.name}_FILE)`);
      values[key] = setting.parse(text);
    } catch (error) {
      if (!(error instanceof SettingFault)) throw error;
      faults.push(`${setting.name} ${error.message}`);
    }
  }
  if (faults.length > 0) throw new ConfigError(faults);
  return values as Config<S>;
}

function readText(name: string, environment: NodeJS.ProcessEnv): string | undefined {
  const direct = environment[name];
  const file = environment[`${name}_FILE`];
  if (direct && file) throw new SettingFault(`is set twice: keep either ${name} or ${name}_FILE`);
  if (!file) return direct || undefined;
  try {
    return readFileSync(file, 'utf8').trim() || undefined;
  } catch (error) {
    throw new SettingFault(`cannot be read from ${file} (${(error as NodeJS.ErrnoException).code})`);
  }
}

const integer =
  (min: number, max: number): Parse<number> =>
  (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) fault(`a whole number from ${min} to ${max}`);
    return value;
  };

const oneOf =
  <const T extends string>(...allowed: T[]): Parse<T> =>
  (text) =>
    allowed.find((value) => value === text) ?? fault(allowed.join(' or '));

const secretOf =
  (bytesMin: number): Parse<Secret> =>
  (text) => {
    if (Buffer.byteLength(text) < bytesMin) fault(`at least ${bytesMin} bytes long`);
    return new Secret(text);
  };

/** A comma-separated list of secrets. */
const secretsOf =
  (bytesMin: number): Parse<readonly Secret[]> =>
  (text) =>
    text.split(',').map((key) => secretOf(bytesMin)(key.trim()));

const urlOf =
  (...protocols: string[]): Parse<Secret> =>
  (text) => {
    if (!URL.canParse(text) || !protocols.includes(new URL(text).protocol)) {
      fault(`a URL that begins with ${protocols.map((protocol) => `${protocol}//`).join(' or ')}`);
    }
    const { username, password } = new URL(text);
    if (!isPercentEncoded(username + password)) fault('a URL in which a percent sign is written as %25');
    return new Secret(text);
  };

function isPercentEncoded(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}

const redisUrl: Parse<Secret> = (text) =>
  isSocket(text) ? new Secret(text) : urlOf('redis:', 'rediss:')(text);

function isSocket(text: string): boolean {
  try {
    return parseSocketAddress(text) !== undefined;
  } catch {
    return fault('the path of a socket, unix://user:password@/path, or a redis:// URL');
  }
}

/** A node's name is part of job ids, in which BullMQ forbids `:`, and of receipts, which appear in URLs. */
const nodeName: Parse<string> = (text) =>
  /^[A-Za-z0-9][A-Za-z0-9.-]{0,62}$/.test(text)
    ? text
    : fault('1 to 63 letters, digits, dots and hyphens, beginning with a letter or digit');

/** `name:password` pairs, separated by commas or newlines; a password may hold any other character. */
const users: Parse<ReadonlyMap<string, User>> = (text) => {
  const entries = text
    .split(/[,\n]/)
    .map((entry) => entry.trim())
    .filter(Boolean)
    .map((entry) => parseUser(entry) ?? fault('name:password pairs, passwords of 8 characters or more'));
  return entries.length > 0 ? new Map(entries) : fault('name:password pairs');
};

/** `http://host:port`, or `unix:///path` for the local engine. */
const dockerApiUrl: Parse<string> = (text) =>
  /^(http:\/\/[\w.-]+(:\d+)?|unix:\/\/\/[^?#]+)\/?$/.test(text) && URL.canParse(text)
    ? text
    : fault('http://host:port or unix:///path');

const httpUrl: Parse<URL> = (text) =>
  /^https?:\/\//.test(text) && URL.canParse(text)
    ? new URL(text)
    : fault('a URL that begins with https:// or http://');

/** Origins of pages, separated by commas. */
const origins: Parse<readonly string[]> = (text) =>
  text
    .split(',')
    .map((origin) => origin.trim())
    .filter(Boolean)
    .map((origin) => {
      if (!URL.canParse(origin) || new URL(origin).origin !== origin) {
        fault('a comma-separated list of origins such as https://www.example.com');
      }
      return origin;
    });

/** The URL of a JWK set, or a public key in PEM. */
const verificationKeys: Parse<URL | KeyObject> = (text) => {
  if (URL.canParse(text)) return httpUrl(text);
  try {
    // Node.js would derive the public key of a private one, which does not belong here.
    if (text.startsWith('-----BEGIN PUBLIC KEY-----')) return createPublicKey(text);
  } catch {}
  return fault('the URL of a JWK set, or a public key in PEM');
};

const challenge: Parse<Challenge | undefined> = (text) => {
  if (text === '') return undefined;
  const [name = '', sitekey = '', ...more] = text.split(':');
  const service = Object.entries(CHALLENGE_SERVICES).find(([known]) => known === name)?.[1];
  if (!service || more.length > 0 || !/^[\w.-]{1,100}$/.test(sitekey)) {
    return fault(`${Object.keys(CHALLENGE_SERVICES).join(', ')}, a colon and the sitekey`);
  }
  return { service, sitekey };
};

const optional =
  <T>(parse: Parse<T>): Parse<T | undefined> =>
  (text) =>
    text === '' ? undefined : parse(text);

const text: Parse<string> = (text) => text;

/** An address to which a path is appended; `undefined` for none. */
const publicUrl: Parse<string | undefined> = (text) => {
  if (text === '') return undefined;
  const isAddress = /^https?:\/\/[^\s/?#@]+(\/[^\s?#]*)?$/.test(text) && URL.canParse(text);
  return isAddress ? text.replace(/\/+$/, '') : fault('an address like https://results.example');
};

const NETWORKS_MAX = 500;

/** A network as `address/prefix`, or one address. Text of this form has no meaning to HAProxy beyond it. */
const network: Parse<string> = (text) => {
  const [, address = '', prefix] = /^([\da-fA-F:.]+)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const family = isIP(address);
  if (family === 0 || Number(prefix ?? 0) > (family === 4 ? 32 : 128)) {
    fault('networks such as 192.0.2.0/24 or 2001:db8::/32');
  }
  return text;
};

/** A list, separated by commas or whitespace. */
const listOf =
  <T>(countMax: number, parse: Parse<T>): Parse<readonly T[]> =>
  (text) => {
    const items = text.split(/[\s,]+/).filter(Boolean);
    if (items.length > countMax) fault(`a list of ${countMax} at most`);
    return items.map(parse);
  };

/** `network=limit`. */
const networkLimit: Parse<{ readonly network: string; readonly max: number }> = (text) => {
  const [, name = '', limit = ''] = /^([^=]+)=(\d{1,7})$/.exec(text) ?? fault('network=limit pairs');
  return { network: network(name), max: Number(limit) };
};

const absolutePath: Parse<string> = (text) => (text.startsWith('/') ? text : fault('an absolute path'));

const setting = <T>(name: string, parse: Parse<T>, fallback?: string): Setting<T> =>
  fallback === undefined ? { name, parse } : { name, parse, fallback };

/** All settings. A process passes the ones it needs to `readConfig`. */
export const settings = {
  port: (fallback: number) => setting('PORT', integer(1, 65_535), String(fallback)),
  adminPort: (fallback: number) => setting('ADMIN_PORT', integer(1, 65_535), String(fallback)),
  node: setting('TURNOUT_NODE', nodeName, hostname()),
  redisUrl: setting('REDIS_URL', redisUrl),
  queueNodes: setting('QUEUE_NODES', secretOf(1)),
  databaseUrl: setting('DATABASE_URL', urlOf('postgres:', 'postgresql:')),
  voterKeys: setting('VOTER_KEY', secretsOf(32)),
  dashboardUsers: setting('DASHBOARD_USERS', users),
  pollsFile: setting('POLLS_FILE', text),
  votesPerJobMax: setting(
    'VOTES_PER_JOB_MAX',
    integer(1, VOTES_PER_JOB_CEILING),
    String(VOTES_PER_JOB_DEFAULT),
  ),
  captureBufferMax: setting(
    'CAPTURE_BUFFER_MAX',
    integer(1, CAPTURE_BUFFER_CEILING),
    String(CAPTURE_BUFFER_DEFAULT),
  ),
  /** The public address of the results handler: receipts are under `/receipts`, and the pages of problems under `/problems`. */
  receiptsUrl: setting('RECEIPTS_URL', publicUrl, ''),
  /** The public address of the voting pages, to which the wall leads. */
  voteUrl: setting('VOTE_URL', publicUrl, ''),
  voterAdmission: setting('VOTER_ADMISSION', oneOf('open', 'issued'), 'open'),
  challenge: setting('CHALLENGE', challenge, ''),
  siteverifySecret: setting('SITEVERIFY_SECRET', secretOf(1)),
  siteverifyUrl: setting('SITEVERIFY_URL', optional(httpUrl), ''),
  jwtKeys: setting('JWT_KEYS', verificationKeys),
  jwtIssuer: setting('JWT_ISSUER', text),
  jwtAudience: setting('JWT_AUDIENCE', text),
  tokenOrigins: setting('TOKEN_ORIGINS', origins, ''),
  tokenRateMax: setting('TOKEN_RATE_MAX', integer(0, 1_000_000), '100'),
  webConcurrency: setting('WEB_CONCURRENCY', integer(1, 256), '1'),
  dockerApiUrl: setting('DOCKER_API_URL', dockerApiUrl, 'http://docker-api:2375'),
  proxyDir: setting('PROXY_DIR', absolutePath, '/run/haproxy'),
  certificatesDir: setting('CERTIFICATES_DIR', absolutePath, '/run/secrets'),
  serviceCluster: setting('SERVICE_CLUSTER', text, ''),
  postRateMax: setting('POST_RATE_MAX', integer(0, 1_000_000), '600'),
  trustedProxies: setting('TRUSTED_PROXIES', listOf(NETWORKS_MAX, network), ''),
  proxyProtocolFrom: setting('PROXY_PROTOCOL_FROM', listOf(NETWORKS_MAX, network), ''),
  postRateNetworks: setting('POST_RATE_NETWORKS', listOf(NETWORKS_MAX, networkLimit), ''),
  logLevel: setting('LOG_LEVEL', oneOf('debug', 'info', 'warn', 'error'), 'info'),
} as const;
