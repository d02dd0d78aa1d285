import { once } from 'node:events';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { Registry } from '@prometheus-io/client';
import { Controller } from '#interlock/controller.ts';
import { DockerApi } from '#interlock/docker.ts';
import { createInterlockMetrics } from '#interlock/metrics.ts';
import { HaProxy } from '#interlock/proxy.ts';
import { createAuthority } from '#kit/certificates.ts';
import { service, startDns, startDocker, startHaProxy } from '#kit/haproxy.ts';
import { recordLog } from '#kit/log.ts';
import { ask } from '#kit/raw-http.ts';
import { until } from '#kit/until.ts';
import { Readiness } from '#runtime/readiness.ts';
import type { Component } from '../measure/proc.ts';

/** The host that is routed. */
export const HOST = 'vote.test';
const NETWORK = 'net';

/** An HAProxy that routes `HOST` to a handler, over HTTP and TLS. */
export interface TestbedProxy {
  readonly port: number;
  readonly tlsPort: number;
  /** The authority of its certificate, in PEM. */
  readonly ca: string;
  readonly component: Component;
  close(): Promise<void>;
}

/**
 * Starts an HAProxy with the configuration of the image and the routes that the controller renders from labels. The Docker API
 * and its name server are stand-ins; no limit of POST requests is set, because all load comes from one address.
 */
export async function startProxy(handlerPort: number, adminPort: number): Promise<TestbedProxy> {
  const [dns, docker] = [await startDns(), await startDocker()];
  const haproxy = await startHaProxy(dns.port);
  const certificatesDir = join(haproxy.folder, 'held');
  await mkdir(certificatesDir);
  const authority = createAuthority(haproxy.folder);
  const ca = await readFile(authority.cert, 'utf8');
  const { both } = authority.issue(HOST);
  await writeFile(join(certificatesDir, 'site.pem'), await readFile(both));
  dns.names.set(`tasks.vote.${NETWORK}`, ['127.0.0.1']);
  docker.networks.set('n1', NETWORK);
  docker.services.set('proxy', service('proxy', { proxy: 'true' }));
  docker.services.set(
    'vote',
    service('vote', {
      hosts: HOST,
      port: String(handlerPort),
      health_port: String(adminPort),
      health_path: '/readyz',
      ssl_cert: 'site',
    }),
  );
  const controller = new Controller({
    docker: new DockerApi(docker.url),
    proxy: new HaProxy(haproxy.folder),
    certificatesDir,
    cluster: '',
    edge: { postRateMax: 0, postRateNetworks: [], trustedProxies: [], proxyProtocolFrom: [] },
    log: recordLog().log,
    readiness: new Readiness('docker', 'proxy'),
    metrics: createInterlockMetrics(new Registry()),
    pollIntervalMs: 1_000,
    downMsMax: 1_000,
  });
  controller.start();
  await until('the proxy routes to the handler', async () => {
    const { status } = await ask(`http://127.0.0.1:${haproxy.port}`, '/', 'GET', { host: HOST });
    return status === 200;
  });
  await until('the proxy has its certificate', () => hasTls(haproxy.tlsPort, ca));
  return {
    port: haproxy.port,
    tlsPort: haproxy.tlsPort,
    ca,
    component: { part: 'proxy', pid: haproxy.workerPid },
    close: async () => {
      await controller.stop();
      await haproxy.remove();
      await docker.close();
      await dns.close();
    },
  };
}

async function hasTls(port: number, ca: string): Promise<boolean> {
  const socket = connect({ host: '127.0.0.1', port, servername: HOST, ca });
  try {
    await once(socket, 'secureConnect');
    return true;
  } finally {
    socket.destroy();
  }
}
