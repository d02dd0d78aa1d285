import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import { join } from 'node:path';
import { Registry } from '@prometheus-io/client';
import { Controller } from '#interlock/controller.ts';
import { DockerApi, type Service } from '#interlock/docker.ts';
import { createInterlockMetrics } from '#interlock/metrics.ts';
import type { EdgeSettings } from '#interlock/model.ts';
import { HaProxy } from '#interlock/proxy.ts';
import {
  service,
  startDns,
  startDocker,
  startHaProxy,
  type TestDns,
  type TestDocker,
  type TestHaProxy,
} from '#kit/haproxy.ts';
import { recordLog } from '#kit/log.ts';
import { freePort } from '#kit/process.ts';
import { ask } from '#kit/raw-http.ts';
import { until } from '#kit/until.ts';
import { Readiness } from '#runtime/readiness.ts';

/** A task's echo of a request. */
export interface Seen {
  readonly task: string;
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** A task of a service: a server with its own address. */
export interface TestTask {
  readonly address: string;
  /** Paths, as they arrived. */
  readonly paths: string[];
  /** What it answers with instead of what it has seen. */
  answer: RequestListener | undefined;
  close(): Promise<void>;
}

/** A proxy, its controller, and the Swarm around them. */
export interface TestInterlock {
  readonly haproxy: TestHaProxy;
  readonly docker: TestDocker;
  readonly dns: TestDns;
  readonly lines: Record<string, unknown>[];
  readonly readiness: Readiness;
  readonly registry: Registry;
  readonly url: string;
  /** The port of all tasks, which differ by address. */
  readonly taskPort: number;
  /** Starts a task; its name server entry is the caller's business. */
  task(
    address: string,
    listener?: (listener: RequestListener) => ReturnType<typeof createServer>,
  ): Promise<TestTask>;
  /** Creates or updates services, starts tasks for them at these addresses, and tells the controller. */
  deploy(spec: Service, addresses?: readonly string[]): Promise<void>;
  undeploy(name: string): void;
  /** Sends a request to the proxy and gives what the task has seen. */
  get(host: string, path?: string, headers?: Record<string, string>): Promise<Seen>;
  status(host: string, path?: string, method?: string): Promise<number>;
  /** Ends the controller and begins a new one, as when its container is replaced. */
  restart(): Promise<void>;
  stopController(): Promise<void>;
  close(): Promise<void>;
}

const NETWORK = 'net';

/** @param edge settings of the controller; default: no limits */
export async function startInterlock(
  options: { readonly edge?: Partial<EdgeSettings>; readonly env?: Record<string, string> } = {},
): Promise<TestInterlock> {
  const dns = await startDns();
  const docker = await startDocker();
  const haproxy = await startHaProxy(dns.port, options.env);
  const taskPort = await freePort();
  const { log, lines } = recordLog();
  const tasks = new Set<TestTask>();
  docker.networks.set('n1', NETWORK);
  docker.services.set('proxy', service('proxy', { proxy: 'true' }));

  const parts = { readiness: new Readiness('docker', 'proxy'), registry: new Registry() };
  const startController = (): Controller => {
    parts.readiness = new Readiness('docker', 'proxy');
    parts.registry = new Registry();
    const controller = new Controller({
      docker: new DockerApi(docker.url),
      proxy: new HaProxy(haproxy.folder),
      certificatesDir: join(haproxy.folder, 'held'),
      cluster: '',
      edge: {
        postRateMax: 0,
        postRateNetworks: [],
        trustedProxies: [],
        proxyProtocolFrom: [],
        ...options.edge,
      },
      log,
      readiness: parts.readiness,
      metrics: createInterlockMetrics(parts.registry),
      pollIntervalMs: 1_000,
      downMsMax: 1_000,
    });
    controller.start();
    return controller;
  };
  let controller = startController();
  const url = `http://127.0.0.1:${haproxy.port}`;

  const interlock: TestInterlock = {
    haproxy,
    docker,
    dns,
    lines,
    get readiness() {
      return parts.readiness;
    },
    get registry() {
      return parts.registry;
    },
    url,
    taskPort,
    task: async (address, create = (listener) => createServer(listener)) => {
      const task = await startTask(address, taskPort, create);
      tasks.add(task);
      return task;
    },
    deploy: async (spec, addresses = []) => {
      for (const address of addresses) await interlock.task(address);
      const prefix = spec.labels['com.docker.lb.backend_mode'] === 'vip' ? '' : 'tasks.';
      if (addresses.length > 0) dns.names.set(`${prefix}${spec.name}.${NETWORK}`, addresses);
      docker.services.set(spec.name, spec);
      docker.announce();
    },
    undeploy: (name) => {
      docker.services.delete(name);
      docker.announce();
    },
    get: async (host, path = '/', headers = {}) => {
      const { status, body } = await ask(url, path, 'GET', { host, ...headers });
      if (status !== 200) throw new Error(`status ${status}`);
      return JSON.parse(body) as Seen;
    },
    status: async (host, path = '/', method = 'GET') => (await ask(url, path, method, { host })).status,
    restart: async () => {
      await controller.stop();
      controller = startController();
    },
    stopController: () => controller.stop(),
    close: async () => {
      await controller.stop();
      await haproxy.remove();
      await Promise.all([...tasks].map((task) => task.close()));
      await docker.close();
      await dns.close();
    },
  };
  return interlock;
}

async function startTask(
  address: string,
  port: number,
  create: (listener: RequestListener) => ReturnType<typeof createServer>,
): Promise<TestTask> {
  const paths: string[] = [];
  const task: TestTask = {
    address,
    paths,
    answer: undefined,
    close: async () => {
      if (!server.listening) return;
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
  const server = create((request, response) => {
    paths.push(request.url ?? '');
    if (task.answer) return task.answer(request, response);
    const { method, url, headers } = request;
    response.end(JSON.stringify({ task: address, method, path: url, headers }));
  });
  server.listen(port, address);
  await once(server, 'listening');
  return task;
}

/** Waits until the proxy answers 200 for this host. */
export async function untilRouted(interlock: TestInterlock, host: string, path = '/'): Promise<Seen> {
  return until(`${host} is routed`, () => interlock.get(host, path));
}
