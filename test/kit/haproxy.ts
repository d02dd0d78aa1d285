import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { findProgram } from '#dev/path.mjs';
import { ROOT } from '#dev/root.ts';
import type { Service } from '#interlock/docker.ts';
import { freePort, scratchFolder, startProgram, type TestProcess } from './process.ts';
import { until } from './until.ts';

const BASE = join(ROOT, 'stack/interlock/proxy.cfg');
export const OPERATOR = { name: 'operator', password: 'correct-horse' } as const;

/** Reason for which the tests with HAProxy are skipped; `undefined` if they run. */
export const haproxyIsMissing = findProgram('haproxy') === undefined;

/** A real HAProxy in master-worker mode, started as in the image `proxy`. */
export interface TestHaProxy {
  /** Files and sockets shared with the controller. */
  readonly folder: string;
  readonly port: number;
  readonly tlsPort: number;
  readonly operatorsPort: number;
  /** The process that serves requests; after a reload it is another one. */
  readonly workerPid: number;
  output(): Promise<string>;
  start(): Promise<void>;
  stop(signal?: NodeJS.Signals): Promise<void>;
  remove(): Promise<void>;
}

/**
 * Starts HAProxy on free ports, with no routes.
 *
 * @param dnsPort port of the name server that resolves tasks
 * @param env further variables of `proxy.cfg`
 */
export async function startHaProxy(dnsPort: number, env: Record<string, string> = {}): Promise<TestHaProxy> {
  const scratch = await scratchFolder();
  const folder = scratch.path;
  await mkdir(join(folder, 'conf.d'));
  const users = join(folder, 'proxy_users.cfg');
  await writeFile(
    users,
    `userlist operators\n  user ${OPERATOR.name} insecure-password ${OPERATOR.password}\n`,
  );
  const [port, tlsPort, operatorsPort] = [await freePort(), await freePort(), await freePort()];
  const log = join(folder, 'haproxy.log');
  const socket = `${folder}/master.sock,mode,600,level,admin`;
  let process: TestProcess | undefined;
  const start = async (): Promise<void> => {
    const started = startProgram(
      'haproxy',
      ['-W', '-S', socket, '-f', BASE, '-f', users, '-f', join(folder, 'conf.d')],
      {
        log,
        env: {
          PROXY_DIR: folder,
          PROXY_HTTP: `*:${port},:::${port}`,
          PROXY_HTTPS: `*:${tlsPort},:::${tlsPort}`,
          PROXY_OPERATORS: `127.0.0.1:${operatorsPort}`,
          DOCKER_DNS: `127.0.0.1:${dnsPort}`,
          ...env,
        },
      },
    );
    process = started;
    const hasStarted = await until('HAProxy shows its statistics, or gives up', async () => {
      if (started.child.exitCode !== null) return 'no';
      return (await fetch(`http://127.0.0.1:${operatorsPort}/`)).status === 401 && 'yes';
    });
    if (hasStarted === 'no') throw new Error(await started.output());
  };
  const stop = async (signal: NodeJS.Signals = 'SIGTERM'): Promise<void> => {
    await process?.end(signal);
  };
  await start();
  return {
    folder,
    port,
    tlsPort,
    operatorsPort,
    get workerPid() {
      const pid = process?.child.pid;
      const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
      return Math.max(...children.map(Number));
    },
    output: async () => (await process?.output()) ?? '',
    start,
    stop,
    remove: async () => {
      await stop();
      await scratch.remove();
    },
  };
}

/** A name server with the test's records, in place of Docker's DNS for `tasks.<service>`. */
export interface TestDns {
  readonly port: number;
  /** Addresses by name; other names do not exist (NXDOMAIN). */
  readonly names: Map<string, readonly string[]>;
  /** Queries dropped while `isSilent`. */
  unanswered: number;
  isSilent: boolean;
  close(): Promise<void>;
}

const RCODE_NX = 3;
const TYPE_A = 1;
const HEADER_BYTES = 12;

/** Starts a name server for A records on UDP. Tasks of tests have addresses in 127.0.0.0/8, all of which are loopback. */
export async function startDns(): Promise<TestDns> {
  const names = new Map<string, readonly string[]>();
  const server = createSocket('udp4');
  server.on('message', (query, { port, address }) => {
    if (dns.isSilent) dns.unanswered += 1;
    else server.send(answerOf(query, names), port, address);
  });
  server.bind(0, '127.0.0.1');
  await once(server, 'listening');
  const dns: TestDns = {
    port: server.address().port,
    names,
    unanswered: 0,
    isSilent: false,
    close: async () => {
      server.close();
      await once(server, 'close');
    },
  };
  return dns;
}

function answerOf(query: Buffer, names: ReadonlyMap<string, readonly string[]>): Buffer {
  const labels: string[] = [];
  let at = HEADER_BYTES;
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  const questionEnd = at + 5;
  const addresses = names.get(labels.join('.').toLowerCase());
  const isA = query.readUInt16BE(at + 1) === TYPE_A;
  const records = (isA ? (addresses ?? []) : []).map((address) =>
    Buffer.from([0xc0, HEADER_BYTES, 0, TYPE_A, 0, 1, 0, 0, 0, 1, 0, 4, ...address.split('.').map(Number)]),
  );
  const header = Buffer.alloc(HEADER_BYTES);
  query.copy(header, 0, 0, 2);
  header.writeUInt16BE(0x8180 | (addresses ? 0 : RCODE_NX), 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(records.length, 6);
  return Buffer.concat([header, query.subarray(HEADER_BYTES, questionEnd), ...records]);
}

/** The part of the Docker API that the controller uses. `npm run test:swarm` covers the real one. */
export interface TestDocker {
  readonly url: string;
  readonly services: Map<string, Service>;
  /** Names by id. */
  readonly networks: Map<string, string>;
  /** Requests seen, as method and path with query. */
  readonly requests: string[];
  /** Fault to inject, while set. */
  failure?: 'status' | 'nonsense' | 'silence' | undefined;
  /** Sends an event to every subscriber. */
  announce(): void;
  /** Stops listening until `resume`. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  close(): Promise<void>;
}

/** @param path of a unix socket to listen on instead of a port */
export async function startDocker(path?: string): Promise<TestDocker> {
  const services = new Map<string, Service>();
  const networks = new Map<string, string>();
  const requests: string[] = [];
  const listeners = new Set<ServerResponse>();
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url}`);
    if (docker.failure === 'silence') return;
    if (docker.failure === 'status') return void response.writeHead(500).end();
    if (docker.failure === 'nonsense') return void response.end('[{"ID": 1}]');
    const [where] = (request.url ?? '').split('?');
    if (where?.endsWith('/events')) {
      response.writeHead(200).flushHeaders();
      listeners.add(response);
      response.on('close', () => listeners.delete(response));
    } else if (where?.endsWith('/services')) {
      response.end(JSON.stringify([...services.values()].map(toAnswer)));
    } else {
      response.end(JSON.stringify([...networks].map(([Id, Name]) => ({ Id, Name, Scope: 'swarm' }))));
    }
  });
  const listen = async (port: number): Promise<void> => {
    server.listen(path ? { path } : { port, host: '127.0.0.1' });
    await once(server, 'listening');
  };
  const pause = async (): Promise<void> => {
    if (!server.listening) return;
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  };
  await listen(0);
  const address = server.address() as AddressInfo;
  const docker: TestDocker = {
    url: path ? `unix://${path}` : `http://127.0.0.1:${address.port}`,
    services,
    networks,
    requests,
    announce: () => {
      for (const listener of listeners) listener.write('{"Type":"service","Action":"update"}\n');
    },
    pause,
    resume: () => listen(address.port),
    close: pause,
  };
  return docker;
}

function toAnswer(service: Service): unknown {
  return {
    ID: service.id,
    CreatedAt: service.createdAt,
    Spec: {
      Name: service.name,
      Labels: { ...service.labels, ...(service.stack && { 'com.docker.stack.namespace': service.stack }) },
      TaskTemplate: {
        ContainerSpec: {
          Image: 'x',
          Secrets: service.secrets.map(({ id, name, file }) => ({
            SecretID: id,
            SecretName: name,
            File: { Name: file, UID: '0', GID: '0', Mode: 292 },
          })),
        },
        Networks: service.networks.map((Target) => ({ Target })),
      },
      EndpointSpec: { Mode: service.hasVirtualIp ? 'vip' : 'dnsrr' },
    },
    ServiceStatus: { RunningTasks: service.tasksWanted, DesiredTasks: service.tasksWanted },
  };
}

/** A service on the network `n1` with these labels, given without prefix; a smaller `age` means an older service. */
export function service(
  name: string,
  labels: Readonly<Record<string, string>>,
  more: Partial<Service> = {},
): Service {
  return {
    id: `id-${name}`,
    name,
    createdAt: '2026-11-01T00:00:00Z',
    labels: Object.fromEntries(Object.entries(labels).map(([key, value]) => [`com.docker.lb.${key}`, value])),
    networks: ['n1'],
    secrets: [],
    hasVirtualIp: false,
    tasksWanted: 1,
    ...more,
  };
}
