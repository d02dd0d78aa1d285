import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:https';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { connect as connectTls } from 'node:tls';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createAuthority, type TestAuthority } from '#kit/certificates.ts';
import { haproxyIsMissing, service } from '#kit/haproxy.ts';
import { scratchFolder } from '#kit/process.ts';
import { until } from '#kit/until.ts';
import { useInterlock } from './fixture.ts';
import { untilRouted } from './interlock.ts';

const ANSWER_MS_MAX = 5_000;
const HOST = 'vote.test';

describe.skipIf(haproxyIsMissing)('a certificate of the controller', () => {
  const at = useInterlock();
  let scratch: Awaited<ReturnType<typeof scratchFolder>>;
  let authority: TestAuthority;

  beforeEach(async () => {
    scratch = await scratchFolder();
    authority = createAuthority(scratch.path);
    await mkdir(join(at.interlock.haproxy.folder, 'held'));
  });
  afterEach(() => scratch.remove());

  const pem = (...hosts: string[]): string => readFileSync(authority.issue(...hosts).both, 'utf8');
  const put = (name: string, content: string): Promise<void> =>
    writeFile(join(at.interlock.haproxy.folder, 'held', `${name}.pem`), content);
  const placed = (name: string): string => join(at.interlock.haproxy.folder, 'certificates', `${name}.pem`);
  const labels = (more: Record<string, string> = {}) => ({ hosts: HOST, port: at.port, ...more });
  const useCertificate = (): Promise<void> =>
    at.interlock.deploy(service('vote', labels({ ssl_cert: 'site' })));

  /** The serial number of the certificate that the proxy presents for a host. */
  async function presented(host = HOST): Promise<string> {
    const { tlsPort: port } = at.interlock.haproxy;
    const ca = readFileSync(authority.cert);
    const socket = connectTls({ host: '127.0.0.1', port, servername: host, ca, timeout: ANSWER_MS_MAX });
    try {
      await once(socket, 'secureConnect');
      return socket.getPeerCertificate().serialNumber;
    } finally {
      socket.destroy();
    }
  }
  const serialOf = (content: string): string => new X509Certificate(content).serialNumber;
  const untilPresented = async (content: string): Promise<void> => {
    const serial = serialOf(content);
    await until('the proxy presents the certificate', async () => (await presented()) === serial);
  };
  const reloads = (): Promise<number | undefined> =>
    at.metric('turnout_interlock_reloads_total', { outcome: 'accepted' });

  test('needs the label only, and is for the user of the proxy only', async () => {
    const first = pem(HOST);
    await put('site', first);
    await useCertificate();
    await untilPresented(first);
    expect((await stat(placed('site'))).mode & 0o777).toBe(0o600);
    const expiry = await at.metric('turnout_interlock_certificate_expiry_timestamp_seconds', {
      certificate: 'site',
    });
    expect(expiry).toBeGreaterThan(Date.now() / 1_000);
  });

  test('is renewed without a reload, below connections that stay', async () => {
    await put('site', pem(HOST));
    await useCertificate();
    // For the service of the fixture, and for the certificate.
    await until('two configurations were loaded', async () => (await reloads()) === 2);
    await until('TLS works', () => presented());
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const ask = async (): Promise<number | undefined> => {
      const options = { port: at.interlock.haproxy.tlsPort, servername: HOST, headers: { host: HOST } };
      const sent = request({ ...options, agent, ca: readFileSync(authority.cert) });
      sent.end();
      const [response] = await once(sent, 'response');
      await text(response);
      return sent.socket?.localPort;
    };
    const connection = await ask();
    const second = pem(HOST);
    await put('site', second);
    await untilPresented(second);
    expect(await ask()).toBe(connection);
    agent.destroy();
    expect(await reloads()).toBe(2);
    await until(
      'it is counted once',
      async () =>
        (await at.metric('turnout_interlock_certificate_renewals_total', { outcome: 'accepted' })) === 1,
    );
  });

  test('stays renewed through a reload and a restart of the proxy', async () => {
    await put('site', pem(HOST));
    await useCertificate();
    await until('TLS works', () => presented());
    const second = pem(HOST);
    await put('site', second);
    await untilPresented(second);
    await at.interlock.deploy(service('more', { hosts: 'more.test', port: at.port }), ['127.0.5.9']);
    await untilRouted(at.interlock, 'more.test');
    expect(await presented()).toBe(serialOf(second));
    await at.interlock.haproxy.stop();
    await at.interlock.haproxy.start();
    await untilPresented(second);
  });

  test('stays the previous one if the new key does not match, also after a reload', async () => {
    const first = pem(HOST);
    await put('site', first);
    await useCertificate();
    await untilPresented(first);
    const [certificate] = pem(HOST).split('-----BEGIN PRIVATE KEY-----');
    const key = pem(HOST).slice(certificate?.length);
    await put('site', `${certificate}${key}`);
    const rejected = (): Promise<number | undefined> =>
      at.metric('turnout_interlock_certificate_renewals_total', { outcome: 'rejected' });
    await until('it was rejected twice', async () => ((await rejected()) ?? 0) >= 2);
    expect(at.logged('certificate not usable')).toBe(1);
    await at.interlock.deploy(service('more', { hosts: 'more.test', port: at.port }), ['127.0.5.9']);
    await untilRouted(at.interlock, 'more.test');
    expect(await presented()).toBe(serialOf(first));
    const third = pem(HOST);
    await put('site', third);
    await untilPresented(third);
  });

  test('that is faulty from the start disables its service only, until it is replaced', async () => {
    const [certificate = ''] = pem(HOST).split('-----BEGIN PRIVATE KEY-----');
    await put('site', certificate);
    await at.interlock.deploy(service('other', { hosts: 'other.test', port: at.port, ssl_cert: 'site' }), [
      '127.0.5.9',
    ]);
    await until('it is quarantined', () => at.logged('"service":"other"') > 0);
    expect(await at.interlock.status(HOST)).toBe(200);
    const good = pem('other.test');
    await put('site', good);
    const serial = serialOf(good);
    await until('the site has TLS', async () => (await presented('other.test')) === serial);
  });

  test.each([
    ['no PEM', () => 'secret\n\nshow info\n', 'it has no certificate and key in PEM'],
    ['too long', () => pem(HOST).repeat(20), 'it exceeds 15000 bytes'],
  ])('is refused if its file is wrong: %s', async (_what, content, reason) => {
    const first = pem(HOST);
    await put('site', first);
    await useCertificate();
    await untilPresented(first);
    await put('wrong', content());
    await until('it is logged', () => at.logged(reason) === 1);
    expect(existsSync(placed('wrong'))).toBe(false);
    expect(at.logged('PRIVATE')).toBe(0);
  });

  test('is placed again after a boot of the node, before Docker responds', async () => {
    const first = pem(HOST);
    await put('site', first);
    await useCertificate();
    await untilPresented(first);
    await at.interlock.docker.pause();
    await at.interlock.stopController();
    await at.interlock.haproxy.stop();
    // The volume is in memory.
    await rm(placed('site'));
    await at.interlock.restart();
    await until('it is there', () => existsSync(placed('site')));
    await at.interlock.haproxy.start();
    await untilPresented(first);
    await at.interlock.docker.resume();
  });

  test('leaves the node when it is neither held nor used', async () => {
    await put('site', pem(HOST));
    await put('unused', pem('unused.test'));
    await useCertificate();
    await until('TLS works', () => presented());
    await until('both are there', () => existsSync(placed('unused')));
    await rm(join(at.interlock.haproxy.folder, 'held', 'unused.pem'));
    await until('the unused one is gone', () => !existsSync(placed('unused')));
    expect(await readdir(join(at.interlock.haproxy.folder, 'certificates'))).toEqual(['site.pem']);
  });
});
