import { createAdminApp } from '#runtime/admin.ts';
import { readConfig, settings } from '#runtime/config.ts';
import { createMetrics } from '#runtime/metrics.ts';
import { runProcess } from '#runtime/process.ts';
import { Readiness } from '#runtime/readiness.ts';
import { listen } from '#runtime/server.ts';
import { Controller } from './controller.ts';
import { DockerApi } from './docker.ts';
import { createInterlockMetrics } from './metrics.ts';
import { HaProxy } from './proxy.ts';

await runProcess('interlock', async ({ log, shutdown }) => {
  const config = readConfig({
    adminPort: settings.adminPort(9084),
    dockerApiUrl: settings.dockerApiUrl,
    proxyDir: settings.proxyDir,
    certificatesDir: settings.certificatesDir,
    serviceCluster: settings.serviceCluster,
    postRateMax: settings.postRateMax,
    postRateNetworks: settings.postRateNetworks,
    trustedProxies: settings.trustedProxies,
    proxyProtocolFrom: settings.proxyProtocolFrom,
    logLevel: settings.logLevel,
  });
  log.setLevel(config.logLevel);
  const readiness = new Readiness('docker', 'proxy');
  const registry = createMetrics('interlock', readiness);
  const admin = await listen(createAdminApp(readiness, registry), config.adminPort);
  shutdown.defer('close the admin port', admin.close);

  const controller = new Controller({
    docker: new DockerApi(config.dockerApiUrl),
    proxy: new HaProxy(config.proxyDir),
    certificatesDir: config.certificatesDir,
    cluster: config.serviceCluster,
    edge: config,
    log,
    readiness,
    metrics: createInterlockMetrics(registry),
  });
  shutdown.defer('finish the reload in progress', () => controller.stop());
  controller.start();
  log.info('following the Swarm', { cluster: config.serviceCluster || 'none' });
});
