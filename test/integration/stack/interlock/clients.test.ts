import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, isIPv4, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { text } from 'node:stream/consumers';
import { connect as connectTls } from 'node:tls';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createAuthority, type TestAuthority } from '#kit/certificates.ts';
import { haproxyIsMissing, service } from '#kit/haproxy.ts';
import { scratchFolder } from '#kit/process.ts';
import { until } from '#kit/until.ts';
import { type Seen, startInterlock, type TestInterlock } from './interlock.ts';

const CDN = '127.0.91.1';
const LOAD_BALANCER = '127.0.92.1';
const STRANGER = '127.0.93.1';
const POST_RATE_MAX = 10;

interface Sent {
  /** Address that connects to the proxy. */
  readonly from: string;
  /** Client in a PROXY protocol v2 header; `local` for the balancer's own health check. */
  readonly client?: string;
  readonly tls?: boolean;
  readonly host?: string;
  readonly method?: string;
  readonly headers?: readonly string[];
}

interface Answer {
  readonly status: number;
  readonly head: string;
  /** What the task has seen of the client. */
  readonly seen: readonly [address: unknown, scheme: unknown];
}

/** The header with which a load balancer begins a connection. */
function proxyHeader(client: string): Buffer {
  const signature = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1');
  if (client === 'local') return Buffer.concat([signature, Buffer.from([0x20, 0, 0, 0])]);
  const [family, address] = isIPv4(client)
    ? [0x11, Buffer.from(client.split('.').map(Number))]
    : [0x21, bytesOf(client)];
  const ports = Buffer.from([0x30, 0x39, 0x01, 0xbb]);
  const body = Buffer.concat([address, Buffer.alloc(address.length, 1), ports]);
  return Buffer.concat([signature, Buffer.from([0x21, family, 0, body.length]), body]);
}

/** An IPv6 address with all eight groups. */
function bytesOf(address: string): Buffer {
  const groups = address.split(':').map((group) => Number.parseInt(group, 16));
  return Buffer.from(groups.flatMap((group) => [group >> 8, group & 0xff]));
}

describe.skipIf(haproxyIsMissing)('the client’s address and scheme', () => {
  let interlock: TestInterlock;
  let folder: Awaited<ReturnType<typeof scratchFolder>>;
  let authority: TestAuthority;
  beforeAll(async () => {
    folder = await scratchFolder();
    authority = createAuthority(folder.path);
    interlock = await startInterlock({
      edge: {
        postRateMax: POST_RATE_MAX,
        trustedProxies: ['127.0.91.0/24', '2001:db8:cd::/48'],
        proxyProtocolFrom: ['127.0.92.0/24'],
      },
    });
    const port = String(interlock.taskPort);
    const { both } = authority.issue('vote.test', 'only.test');
    const secrets = [{ id: 's', name: 'cert', file: both }];
    interlock.docker.services.set('proxy', service('proxy', { proxy: 'true' }, { secrets }));
    const tls = { port, ssl_cert: 'cert' };
    await interlock.deploy(service('vote', { hosts: 'vote.test', ...tls }), ['127.0.9.11']);
    await interlock.deploy(service('only', { hosts: 'only.test', ...tls, ssl_only: 'true' }), ['127.0.9.12']);
    await interlock.deploy(service('hash', { hosts: 'hash.test', port, ip_hash: 'true' }), [
      '127.0.9.13',
      '127.0.9.14',
    ]);
    for (const host of ['vote.test', 'hash.test']) {
      await until(`${host} is routed`, async () => (await send({ from: STRANGER, host })).status === 200);
    }
    await until('only.test is routed', async () => {
      return (await send({ from: STRANGER, host: 'only.test', tls: true })).status === 200;
    });
  });
  afterAll(async () => {
    await interlock.close();
    await folder.remove();
  });

  /** Opens a connection to the proxy as a client, a CDN or a load balancer does. */
  async function open({ from, client, tls = false, host = 'vote.test' }: Sent): Promise<Duplex> {
    const port = tls ? interlock.haproxy.tlsPort : interlock.haproxy.port;
    const isIPv6 = from === '::1';
    const socket: Socket = connect({ host: isIPv6 ? '::1' : '127.0.0.1', port, localAddress: from });
    await once(socket, 'connect');
    if (client !== undefined) socket.write(proxyHeader(client));
    if (!tls) return socket;
    const secure = connectTls({ socket, servername: host, ca: readFileSync(authority.cert) });
    await once(secure, 'secureConnect');
    return secure;
  }

  const requestOf = ({ host = 'vote.test', method = 'GET', headers = [] }: Sent, more: string[] = []) =>
    [`${method} / HTTP/1.1`, `Host: ${host}`, 'Content-Length: 0', ...headers, ...more, '', ''].join('\r\n');

  async function send(sent: Sent): Promise<Answer> {
    const socket = await open(sent);
    socket.write(requestOf(sent, ['Connection: close']));
    return answerOf(await text(socket));
  }

  function answerOf(received: string): Answer {
    const [head = '', ...rest] = received.split('\r\n\r\n');
    const body = rest.join();
    const headers = body.startsWith('{"task"') ? (JSON.parse(body) as Seen).headers : {};
    return {
      status: Number(head.slice(9, 12)),
      head: head.toLowerCase(),
      seen: [headers['x-forwarded-for'], headers['x-forwarded-proto']],
    };
  }

  const forwarded = (address: string, proto = 'https'): string[] => [
    `X-Forwarded-For: ${address}`,
    `X-Forwarded-Proto: ${proto}`,
  ];

  test('are those of the connection, over IPv4 and IPv6, with and without TLS', async () => {
    expect((await send({ from: STRANGER })).seen).toEqual([STRANGER, 'http']);
    expect((await send({ from: STRANGER, tls: true })).seen).toEqual([STRANGER, 'https']);
    expect((await send({ from: '::1' })).seen).toEqual(['::1', 'http']);
    expect((await send({ from: '::1', tls: true })).seen).toEqual(['::1', 'https']);
  });

  test('are not what a stranger claims', async () => {
    const headers = [...forwarded('6.6.6.6'), 'Forwarded: for=6.6.6.6;proto=https', 'X-Real-IP: 6.6.6.6'];
    const answer = await send({ from: STRANGER, headers });
    expect(answer.seen).toEqual([STRANGER, 'http']);
    expect(answer.head).not.toContain('strict-transport-security');
    expect((await send({ from: STRANGER, headers, host: 'only.test' })).status).toBe(307);
    expect((await send({ from: STRANGER, client: '6.6.6.6' })).status).toBe(400);
  });

  test('are those that a CDN names, and only the entry that it has added', async () => {
    const answer = await send({ from: CDN, headers: forwarded('2001:db8::7') });
    expect(answer.seen).toEqual(['2001:db8::7', 'https']);
    expect(answer.head).toContain('strict-transport-security');
    expect((await send({ from: CDN, headers: forwarded('6.6.6.6, 192.0.2.7') })).seen).toEqual([
      '192.0.2.7',
      'https',
    ]);
    const split = ['X-Forwarded-For: 6.6.6.6', 'X-Forwarded-Proto: https', ...forwarded('192.0.2.8', 'http')];
    expect((await send({ from: CDN, headers: split })).seen).toEqual(['192.0.2.8', 'http']);
    expect((await send({ from: CDN, headers: forwarded('6.6.6.6, unknown') })).seen).toEqual([CDN, 'https']);
    expect((await send({ from: CDN })).seen).toEqual([CDN, 'http']);
  });

  test('decide redirects to HTTPS by the connection of the CDN’s client', async () => {
    const to = (headers: string[], tls: boolean) => send({ from: CDN, headers, tls, host: 'only.test' });
    expect((await to(forwarded('192.0.2.7', 'https'), false)).status).toBe(200);
    const redirected = await to(forwarded('192.0.2.7', 'http'), true);
    expect(redirected.status).toBe(307);
    expect(redirected.head).toContain('location: https://only.test/');
    expect((await to([], true)).status).toBe(200);
  });

  test('belong to each request of a CDN’s connection', async () => {
    const socket = await open({ from: CDN });
    let received = '';
    socket.on('data', (data) => {
      received += String(data);
    });
    const asks = [forwarded('192.0.2.21'), forwarded('192.0.2.22', 'http'), []];
    for (const [index, headers] of asks.entries()) {
      socket.write(requestOf({ from: CDN, headers }));
      await until('an answer', () => received.split('HTTP/1.1 200').length === index + 2);
    }
    socket.destroy();
    const seen = [...received.matchAll(/"x-forwarded-for":"([^"]+)"/g)].map(([, address]) => address);
    expect(seen).toEqual(['192.0.2.21', '192.0.2.22', CDN]);
    const schemes = [...received.matchAll(/"x-forwarded-proto":"([^"]+)"/g)].map(([, scheme]) => scheme);
    expect(schemes).toEqual(['https', 'http', 'http']);
  });

  test('are those that a load balancer names by the PROXY protocol', async () => {
    expect((await send({ from: LOAD_BALANCER, client: '192.0.2.31' })).seen).toEqual(['192.0.2.31', 'http']);
    const client = '2001:db8:0:0:0:0:0:31';
    const secure = await send({ from: LOAD_BALANCER, client, tls: true });
    expect(secure.seen).toEqual(['2001:db8::31', 'https']);
    const claimed = await send({
      from: LOAD_BALANCER,
      client: '192.0.2.31',
      headers: forwarded('6.6.6.6'),
    });
    expect(claimed.seen).toEqual(['192.0.2.31', 'http']);
    expect((await send({ from: LOAD_BALANCER, client: 'local' })).seen).toEqual([LOAD_BALANCER, 'http']);
    // The proxy closes a connection without the header; how the client learns of it varies.
    const refused = send({ from: LOAD_BALANCER }).then(({ status }) => status);
    expect(await refused.catch(() => 0)).toBe(0);
  });

  test('pass through a load balancer behind a CDN', async () => {
    const client = '2001:db8:cd:0:0:0:0:1';
    const answer = await send({ from: LOAD_BALANCER, client, headers: forwarded('192.0.2.41') });
    expect(answer.seen).toEqual(['192.0.2.41', 'https']);
  });

  test('count for the POST limit, by IPv4 address and IPv6 /64', async () => {
    const passed = async (client: string): Promise<number> => {
      let count = 0;
      for (let sent = 0; sent < POST_RATE_MAX + 5; sent++) {
        const { status } = await send({ from: CDN, method: 'POST', headers: forwarded(client) });
        if (status === 200) count += 1;
      }
      return count;
    };
    expect(await passed('192.0.2.51')).toBe(POST_RATE_MAX);
    expect(await passed('192.0.2.52')).toBe(POST_RATE_MAX);
    expect(await passed('2001:db8:1:1::1')).toBe(POST_RATE_MAX);
    expect(await passed('2001:db8:1:1:ffff::2')).toBe(0);
    expect(await passed('2001:db8:1:2::1')).toBe(POST_RATE_MAX);
  });

  test('keep a client of a CDN on its task where the service asks for it', async () => {
    const clients = Array.from({ length: 30 }, (_, number) => `192.0.2.${number + 100}`);
    const place = (): Promise<string[]> =>
      Promise.all(
        clients.map(async (client) => {
          const socket = await open({ from: CDN });
          socket.write(
            requestOf({ from: CDN, host: 'hash.test', headers: forwarded(client) }, ['Connection: close']),
          );
          return (/"task":"([^"]+)"/.exec(await text(socket)) ?? [])[1] ?? '';
        }),
      );
    const before = await place();
    expect(new Set(before)).toEqual(new Set(['127.0.9.13', '127.0.9.14']));
    expect(await place()).toEqual(before);
  });

  test('also reach a site beside one that ends TLS itself', async () => {
    const port = String(interlock.taskPort);
    await interlock.deploy(service('own', { hosts: 'own.test', port, ssl_passthrough: 'true' }));
    await until('the balancer’s client is seen behind the SNI router', async () => {
      const { seen } = await send({ from: LOAD_BALANCER, client: '192.0.2.61', tls: true });
      const master = readFileSync(`${interlock.haproxy.folder}/good/routes.cfg`, 'utf8');
      return master.includes('web.tls') && seen[0] === '192.0.2.61' && seen[1] === 'https';
    });
  });
});
