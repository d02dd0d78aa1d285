import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LabelFault, type Labels, parseLabels } from '#interlock/labels.ts';

const prefixed = (labels: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(labels).map(([key, value]) => [`com.docker.lb.${key}`, value]));

const parse = (labels: Readonly<Record<string, string>>): Labels =>
  parseLabels(prefixed({ hosts: 'a.test', port: '80', ...labels }));

function faultOf(labels: Readonly<Record<string, string>>): string {
  try {
    parseLabels(prefixed(labels));
  } catch (error) {
    if (error instanceof LabelFault) return error.message;
    throw error;
  }
  return '';
}

describe('labels', () => {
  test('have defaults', () => {
    expect(parse({})).toEqual({
      hosts: ['a.test'],
      port: 80,
      contextRoot: '',
      contextRootRewrite: false,
      sslOnly: false,
      sslPassthrough: false,
      sslBackend: false,
      sslBackendTlsVerify: 'none',
      redirects: [],
      ipHash: false,
      backendMode: 'task',
      defaultBackend: false,
    });
  });

  test('are all parsed', () => {
    expect(
      parse({
        hosts: ' WWW.a.test,a.test , a.test,,',
        port: '8080',
        network: 'turnout_public',
        context_root: '/api/v1.0/',
        context_root_rewrite: 'True',
        ssl_cert: 'cert.pem',
        ssl_key: 'key.pem',
        ssl_only: 'true',
        ssl_backend: 'true',
        ssl_backend_tls_verify: 'required',
        sticky_session_cookie: 'JSESSIONID',
        websocket_endpoints: '/ws,/x y',
        backend_mode: 'vip',
        service_cluster: 'anything',
        health_port: '9080',
        health_path: '/readyz',
        task_connections_max: '512',
      }),
    ).toEqual({
      hosts: ['a.test', 'www.a.test'],
      port: 8080,
      network: 'turnout_public',
      contextRoot: '/api/v1.0',
      contextRootRewrite: true,
      sslCert: 'cert.pem',
      sslKey: 'key.pem',
      sslOnly: true,
      sslPassthrough: false,
      sslBackend: true,
      sslBackendTlsVerify: 'required',
      redirects: [],
      stickySessionCookie: 'JSESSIONID',
      ipHash: false,
      backendMode: 'vip',
      defaultBackend: false,
      healthPort: 9080,
      healthPath: '/readyz',
      taskConnectionsMax: 512,
    });
  });

  test('of redirects keep the path unless source or target has one', () => {
    const { redirects } = parse({
      redirects: 'http://Old.test,HTTPS://New.Test/;older.test/a/,https://new.test/b?c=d;',
    });
    expect(redirects).toEqual([
      { from: { scheme: 'http', host: 'old.test', root: '' }, to: 'https://new.test', keepsPath: true },
      { from: { host: 'older.test', root: '/a' }, to: 'https://new.test/b?c=d', keepsPath: false },
    ]);
  });

  test.each<[Record<string, string>, string]>([
    [{}, 'hosts is missing; port is missing'],
    [{ hosts: '', port: '1' }, 'hosts is missing'],
    [{ hosts: '*.a.test', port: '1' }, 'hosts must be a host name'],
    [{ hosts: 'a.test:80', port: '1' }, 'hosts must be a host name'],
    [{ hosts: 'a..test', port: '1' }, 'hosts must be a host name'],
    [{ hosts: 'a.test', port: '65536' }, 'port must be a whole number from 1 to 65535'],
    [{ hosts: 'a.test', port: '0x50' }, 'port must be a whole number from 1 to 65535'],
    [{ hosts: 'a.test', port: '1', context_root: 'api' }, 'context_root must be a path'],
    [{ hosts: 'a.test', port: '1', context_root: '/a/../b' }, 'context_root must be a path'],
    [{ hosts: 'a.test', port: '1', context_root: '/a//b' }, 'context_root must be a path'],
    [{ hosts: 'a.test', port: '1', ssl_only: 'yes' }, 'ssl_only must be true or false'],
    [{ hosts: 'a.test', port: '1', ssl_only: 'true' }, 'ssl_only needs ssl_cert or ssl_passthrough'],
    [{ hosts: 'a.test', port: '1', ssl_key: 'k' }, 'ssl_key needs ssl_cert'],
    [
      { hosts: 'a.test', port: '1', ssl_cert: '../x' },
      'ssl_cert must be a name of letters, digits, dots, hyphens',
    ],
    [
      { hosts: 'a.test', port: '1', ssl_passthrough: 'true', ssl_cert: 'c' },
      'ssl_passthrough excludes ssl_cert',
    ],
    [
      { hosts: 'a.test', port: '1', ip_hash: 'true', sticky_session_cookie: 'c' },
      'ip_hash excludes sticky_session_cookie',
    ],
    [{ hosts: 'a.test', port: '1', health_port: '2' }, 'health_port needs health_path'],
    [{ hosts: 'a.test', port: '1', sll_only: 'true' }, 'sll_only is an unknown label'],
    [{ hosts: 'a.test', port: '1', constructor: 'x' }, 'constructor is an unknown label'],
    [
      { hosts: 'a.test', port: '1', redirects: 'a.test' },
      'redirects must be from,to;from,to with hosts or URLs as sources and URLs as targets',
    ],
    [
      { hosts: 'a.test', port: '1', redirects: 'b.test,ftp://a.test' },
      'redirects must be from,to;from,to with hosts or URLs as sources and URLs as targets',
    ],
    [{ hosts: Array(101).fill('a.test').join(), port: '1' }, 'hosts must be 100 items at most'],
  ])('%j is a fault: %s', (labels, fault) => {
    expect(faultOf(labels)).toBe(fault);
  });

  test('report every fault at once, without text that could forge a log line', () => {
    expect(faultOf({ hosts: 'a b', port: 'x', 'evil\nname': '1' })).toBe(
      'evil?name is an unknown label; hosts must be a host name; port must be a whole number from 1 to 65535',
    );
  });

  test('pass no character with a meaning to HAProxy, for any input', () => {
    const labels = fc.constantFrom(
      ...['hosts', 'port', 'network', 'context_root', 'ssl_cert', 'ssl_key', 'redirects', 'health_path'],
      ...['sticky_session_cookie', 'health_port', 'task_connections_max', 'backend_mode', 'ip_hash'],
    );
    const good = fc.constantFrom('a.test', '/a', '80', 'true', 'http://a.test', 'a.test,http://b.test/x');
    const special = fc.constantFrom(...' \n\r\t"\'#$%\\{}\0\u0085\u2028');
    const spoilt = fc
      .tuple(good, special, fc.nat(30), fc.string())
      .map(([text, bad, at, rest]) => `${text.slice(0, at)}${bad}${rest}${text.slice(at)}`);
    const texts = fc.oneof(good, spoilt, fc.string(), fc.string({ unit: 'binary' }));
    fc.assert(
      fc.property(labels, texts, (label, text) => {
        for (const word of wordsOf(parseOrNothing({ [label]: text }))) {
          expect(word).toMatch(/^[A-Za-z0-9._~:/?=&+-]*$/);
        }
      }),
      { numRuns: 5_000 },
    );
  });
});

function parseOrNothing(labels: Readonly<Record<string, string>>): unknown {
  try {
    return parse(labels);
  } catch (error) {
    if (error instanceof LabelFault) return undefined;
    throw error;
  }
}

/** All strings in a value, however deep. */
function wordsOf(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  return value !== null && typeof value === 'object' ? Object.values(value).flatMap(wordsOf) : [];
}
